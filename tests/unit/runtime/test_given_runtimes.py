"""The runtime that a host is given starts the tasks of all its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, MutableState, command, compute_method, gather, value_of
from fusion_cluster.database import BatchLoader
from fusion_cluster.runtime import Runtime, SeededEntropy
from fusion_cluster.runtime.clock import Clock

T = TypeVar("T")


class NotingRuntime(Runtime):
    """Notes the names of the tasks that it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def create_task(
        self, coroutine: Coroutine[Any, Any, T], *, name: str, context: Context | None = None
    ) -> asyncio.Task[T]:
        self.names.append(name)
        return super().create_task(coroutine, name=name, context=context)

    def ensure_future(self, awaitable: Any, *, name: str) -> asyncio.Future[Any]:
        self.names.append(name)
        return super().ensure_future(awaitable, name=name)


class Base(DeclarativeBase):
    pass


class ToolRow(Base):
    __tablename__ = "tools"
    id: Mapped[int] = mapped_column(primary_key=True)


async def soon() -> int:
    await asyncio.sleep(0)
    return 1


class Tools(ComputeService):
    @compute_method
    async def gathered(self, tool: int) -> int:
        return sum(await gather(soon(), soon()))

    @compute_method
    async def stored(self, tool: int) -> bool:
        return await self.database.loader(ToolRow).load(tool) is not None

    @compute_method(offload="thread")
    def crossed(self, tool: int) -> int:
        return value_of(self.gathered(tool))

    @command
    async def touch(self, tool: int) -> None:
        async with self.database.operation():
            pass


async def test_the_parts_of_a_host_start_their_tasks_by_its_runtime(tmp_path: Path) -> None:
    runtime = NotingRuntime()
    database = Database(f"sqlite:///{tmp_path}/tools.db")
    async with App("tools", services=[Tools], database=database).local(runtime=runtime) as host:
        await database.create_tables(Base.metadata)
        tools = host.service(Tools)
        assert await tools.gathered(1) == 2
        assert runtime.names.count("gather") == 2
        assert await tools.crossed(1) == 2
        assert "a call of a body's thread" in runtime.names
        assert not await tools.stored(1)
        assert "look a batch up" in runtime.names
        await host.carry_out(tools.touch.invocation((1,), "an id"))
        assert "look commands up" in runtime.names
    assert "prepare the database" in runtime.names


async def test_a_loader_of_ones_own_and_a_state_take_a_runtime() -> None:
    runtime = NotingRuntime()

    async def doubled(numbers: Any) -> dict[int, int]:
        return {number: 2 * number for number in numbers}

    assert await BatchLoader(doubled, runtime=runtime).load(3) == 6
    assert runtime.names == ["look a batch up"]


async def test_a_state_that_is_set_by_hand_is_dated_by_its_runtime() -> None:
    clock = Clock(lambda: 5.0, lambda: 1_800_000_000.0, lambda: 5.0)
    rate = MutableState(1.1, runtime=Runtime(clock, SeededEntropy(3)))
    rate.set(1.2)
    assert rate.value == 1.2
