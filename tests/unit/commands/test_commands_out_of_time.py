"""A command whose caller's time is up, at whatever moment: the caller is told right what has become of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from fusion_cluster import App, ComputeService, Database, command, compute_method
from fusion_cluster.errors import CommandOutcomeUnknown, DeadlineExceeded
from fusion_cluster.host import LocalHost
from fusion_cluster.middleware import Call, Next
from fusion_cluster.runtime.deadline import NO_DEADLINE, current_deadline_s, deadline_at
from tests.apps.shelves import Base, ShelfRow, Shelves, Stock
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


class Slow(ComputeService):
    """Commands that take their time, before and after they have changed something."""

    def __init__(self) -> None:
        self.deadlines_s: list[float] = []
        self.value = 0

    @compute_method
    async def get(self) -> int:
        return self.value

    @command
    async def wait(self) -> None:
        self.deadlines_s.append(current_deadline_s())
        await asyncio.sleep(30)

    @command
    async def change_and_wait(self) -> None:
        self.value += 1
        self.get.invalidate()
        await asyncio.sleep(30)

    @command
    async def outer(self) -> None:
        await self.wait()

    @command
    async def commit_and_wait(self) -> str:
        async with self.database.operation() as operation:
            operation.session.add(ShelfRow(id=1, amount=1))
            operation.result("early")
        await asyncio.sleep(current_deadline_s() - time.monotonic() + 0.1)
        return "late"


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[LocalHost]:
    database = Database(database_url)
    await database.create_tables(Base.metadata)
    host = LocalHost(App("shelves", [Shelves, Stock, Slow], database=database), max_nodes=1000)
    yield host
    host.graph.validate()
    await host.close()
    await database.dispose()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def amounts(database: Database) -> dict[int, int]:
    async with database.session() as session:
        rows = [await session.get(ShelfRow, number) for number in (1, 2)]
        return {row.id: row.amount for row in rows if row is not None}


@pytest.mark.both_databases
@pytest.mark.parametrize("nested", [False, True])
async def test_whenever_the_time_is_up_the_outcome_is_told_right_and_a_retry_does_it_once(
    host: LocalHost, nested: bool
) -> None:
    shelves, stock = host.service(Shelves), host.service(Stock)
    database = shelves.database
    await shelves.put(1, 100)
    await shelves.put(2, 0)
    outcomes: Counter[str] = Counter()
    left_s = 0.0
    while outcomes["done"] < 5:
        before = await amounts(database)
        old = shelves.total(1, 2)
        assert await old == sum(before.values())
        expected = {1: before[1] - 1, 2: before[2] + 1} if nested else {**before, 1: before[1] - 1}
        invocation = (
            stock.move.invocation((1, 2, 1), f"id {left_s}")
            if nested
            else shelves.put.invocation((1, before[1] - 1), f"id {left_s}")
        )
        outcome = "done"
        try:
            await host.carry_out(invocation.replace(deadline_s=time.monotonic() + left_s))
        except DeadlineExceeded:
            outcome = "nothing"
        except CommandOutcomeUnknown:
            outcome = "unknown"
        outcomes[outcome] += 1
        after = await amounts(database)
        assert after in {"done": [expected], "nothing": [before], "unknown": [before, expected]}[outcome]
        if after == expected:
            assert not old.is_consistent
        await host.carry_out(invocation.replace(is_retry=True))
        assert await amounts(database) == expected
        assert await shelves.total(1, 2) == sum(expected.values())
        left_s += 0.0004
    assert outcomes["nothing"]


async def left(host: LocalHost, method: str, *arguments: object, timeout_s: float) -> object:
    bound = host.command(f"Slow.{method}")
    invocation = bound.invocation(arguments).replace(deadline_s=time.monotonic() + timeout_s)
    return (await host.carry_out(invocation)).value


async def test_a_command_of_no_operation_is_cancelled_too(host: LocalHost) -> None:
    with pytest.raises(DeadlineExceeded, match="nothing is committed"):
        await left(host, "wait", timeout_s=0.05)
    with pytest.raises(DeadlineExceeded):
        await left(host, "outer", timeout_s=0.05)
    assert all(deadline_s < NO_DEADLINE for deadline_s in host.service(Slow).deadlines_s)
    assert len(host.service(Slow).deadlines_s) == 2


async def test_one_that_has_made_a_change_known_is_in_doubt(host: LocalHost) -> None:
    with pytest.raises(CommandOutcomeUnknown, match="taken effect"):
        await left(host, "change_and_wait", timeout_s=0.05)
    assert await host.service(Slow).get() == 1


async def test_nothing_is_cancelled_after_the_commit(host: LocalHost) -> None:
    await host.service(Shelves).put(2, 5)  # all connections are made
    assert await left(host, "commit_and_wait", timeout_s=2.0) == "late"


async def test_a_command_that_waits_for_its_turn_leaves_the_queue(host: LocalHost) -> None:
    slow = host.service(Slow)
    first = asyncio.ensure_future(slow.wait())
    await until(lambda: bool(slow.deadlines_s))
    with pytest.raises(DeadlineExceeded):
        await left(host, "wait", timeout_s=0.05)
    assert len(slow.deadlines_s) == 1
    first.cancel()
    await asyncio.wait([first])
    assert not len(host.turns)


async def test_a_command_without_a_deadline_has_none(host: LocalHost) -> None:
    waiting = asyncio.ensure_future(host.service(Slow).wait())
    await until(lambda: bool(host.service(Slow).deadlines_s))
    assert host.service(Slow).deadlines_s == [NO_DEADLINE]
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_middleware_is_told_until_when_somebody_waits() -> None:
    seen: list[tuple[str, float]] = []

    async def watched(call: Call, next: Next) -> object:
        seen.append((call.kind, call.deadline_s))
        return await next(call)

    class Plain(ComputeService):
        @compute_method
        async def get(self) -> int:
            return 1

        @command
        async def run(self) -> int:
            return await self.get()

    async with App("plain", [Plain], middleware=[watched]).local() as host:
        deadline_s = time.monotonic() + 60
        with deadline_at(deadline_s):
            assert await host.service(Plain).run() == 1
        assert seen == [("command", deadline_s), ("compute", NO_DEADLINE)]
