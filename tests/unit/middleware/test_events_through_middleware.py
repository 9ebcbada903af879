"""Around event handlers: each attempt passes; what is about callers, or tried again by others, leaves them alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fusion_cluster import App, ComputeService, Database, Middleware, command, event_handler
from fusion_cluster.host import LocalHost
from fusion_cluster.middleware import Authorization, Retries, acting_as, signed_in
from tests.unit.events.orders import Base, Ledger, OrderPlaced, Orders, quick, until_delivered
from tests.unit.middleware.bakery import Recorder


@asynccontextmanager
async def ordering(folder: Path, *middleware: Middleware) -> AsyncIterator[LocalHost]:
    database = Database(f"sqlite:///{folder}/orders.db")
    await database.create_tables(Base.metadata)
    services = [Orders, Ledger, Parcels]
    async with App(
        "orders", services=services, database=database, events=quick(), middleware=middleware
    ).local() as host:
        yield host


class Parcels(ComputeService):
    """Handles events, and calls a command for it."""

    def __init__(self) -> None:
        self.packed: list[int] = []

    @event_handler
    async def on_placed(self, event: OrderPlaced) -> None:
        await self.pack(event.order_id)

    @command
    async def pack(self, order_id: int) -> None:
        self.packed.append(order_id)


async def test_an_event_handler_says_what_it_is_and_a_command_that_it_calls_is_nested(tmp_path: Path) -> None:
    recorder = Recorder()
    async with ordering(tmp_path, recorder) as host:
        await host.service(Orders).place(1, [7])
        await until_delivered(host.app.database)  # type: ignore[arg-type]
        calls = {call.name: call for call in recorder.calls}
    placed, pack = calls["Parcels.on_placed"], calls["Parcels.pack"]
    assert (placed.kind, placed.arguments, placed.is_nested) == ("event", (OrderPlaced(1, 7),), False)
    assert (pack.kind, pack.is_nested, pack.command_id) == ("command", True, placed.command_id)
    assert placed.command_id != calls["Orders.place"].command_id


async def test_each_attempt_passes_and_retries_leave_them_to_the_delivery(tmp_path: Path) -> None:
    pauses_s: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses_s.append(pause_s)

    recorder = Recorder()
    async with ordering(tmp_path, Retries(commands=True, sleep=sleep), recorder) as host:
        ledger = host.service(Ledger)
        failed: list[Any] = []

        async def fail_once(event: Any) -> None:
            if not failed:
                failed.append(event)
                raise ConnectionError

        ledger.before = fail_once
        await host.service(Orders).ship(1)
        await until_delivered(host.app.database)  # type: ignore[arg-type]
        attempts = [call.command_id for call in recorder.calls if call.name == "Ledger.on_order"]
    assert len(attempts) == 2
    assert attempts[0] == attempts[1]
    assert pauses_s == []


async def test_authorization_is_about_callers_and_handlers_have_none(tmp_path: Path) -> None:
    rules = Authorization({"Orders.*": signed_in, "Parcels.pack": lambda person, call: call.is_nested})
    async with ordering(tmp_path, rules) as host:
        with acting_as("Ann"):
            await host.service(Orders).place(3, [1])
        await until_delivered(host.app.database)  # type: ignore[arg-type]
        assert host.service(Parcels).packed == [3]
        assert await host.service(Ledger).entries(3) == [1]
