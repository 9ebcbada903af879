"""Several handlers of one event, events that do not fit, and what is around handlers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fusion_cluster import (
    App,
    Call,
    ComputeService,
    Database,
    EventOptions,
    Next,
    UsageError,
    event_handler,
)
from fusion_cluster.commands import running_command, running_operation
from fusion_cluster.database.event_store import EventState
from fusion_cluster.host import LocalHost
from tests.statements import statements
from tests.unit.events.orders import (
    Base,
    Event,
    Ledger,
    OrderPlaced,
    Orders,
    Unheard,
    entries,
    orders_host,
    quick,
    until_delivered,
)
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


@pytest.fixture
async def host(database: Database) -> AsyncIterator[LocalHost]:
    async with orders_host(database) as host:
        yield host


def tally(host: LocalHost) -> tuple[int, int]:
    assert host.dispatcher is not None
    return host.dispatcher.delivered_count, host.dispatcher.failed_count


# -- several handlers --------------------------------------------------------------------------------------------------
class Copies(ComputeService):
    """Handles what the ledger handles, too."""

    def __init__(self) -> None:
        self.calls: list[OrderPlaced] = []
        self.is_broken = False
        self.command_ids: list[str] = []

    @event_handler
    async def on_placed(self, event: OrderPlaced) -> None:
        self.calls.append(event)
        command = running_command()
        assert command is not None
        self.command_ids.append(command.command_id)
        if self.is_broken:
            raise LookupError("broken")


@asynccontextmanager
async def copying_host(database: Database, **settings: Any) -> AsyncIterator[LocalHost]:
    await database.create_tables(Base.metadata)
    settings = {"events": quick(), **settings}
    async with App("orders", services=[Orders, Copies, Ledger], database=database, **settings).local() as host:
        yield host


@pytest.mark.both_databases
async def test_each_handler_is_called_and_one_that_has_succeeded_is_not_called_again(database: Database) -> None:
    async with copying_host(database) as host:
        copies, ledger = host.service(Copies), host.service(Ledger)
        copies.is_broken = True
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
        (dead,) = await database.events.list()
        assert dead.remaining == ("Copies.on_placed",)
        assert (len(copies.calls), len(ledger.calls)) == (3, 1)
        assert set(copies.command_ids) == {f"{dead.event_id}/Copies.on_placed"}
        copies.is_broken = False
        assert await database.events.retry(dead.event_id)
        await until_delivered(database)
        assert await database.events.list() == []
        assert (len(copies.calls), len(ledger.calls)) == (4, 1)


async def test_each_handler_is_given_an_event_of_its_own(database: Database) -> None:
    async with copying_host(database) as host:
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
        (ours,), (theirs,) = host.service(Copies).calls, host.service(Ledger).calls
        assert ours == theirs
        assert ours is not theirs


async def test_an_event_waits_for_a_handler_that_is_gone_like_for_one_that_fails(database: Database) -> None:
    async with copying_host(database, events=quick(backoff=lambda failed: 0.4)) as host:
        host.service(Copies).is_broken = True
        await host.service(Orders).place(1, [1])
        await until(lambda: host.service(Copies).calls)
        await until(lambda: tally(host)[1] == 1)
    async with orders_host(database) as host:
        await until_delivered(database)
        (dead,) = await database.events.list()
        assert dead.error is not None
        assert "no event handler 'Copies.on_placed'" in dead.error
        assert await entries(database) == [1]


async def test_an_event_that_does_not_fit_its_class_any_more_ends_dead(host: LocalHost, database: Database) -> None:
    async with database.operation() as operation:
        operation.emit(Unheard(1), key=("order_id", 1))
        written = operation.events[0]
        object.__setattr__(written, "type", "OrderPlaced")
        object.__setattr__(written, "payload", b"\x81\xa8order_id\xa3one")
        operation.emit(OrderPlaced(1, 2))
    await until_delivered(database)
    (dead,) = await database.events.list()
    assert dead.error is not None
    assert "does not fit its type OrderPlaced" in dead.error
    assert await entries(database) == [2]


async def test_what_nobody_here_handles_waits_and_holds_up_nobody(host: LocalHost, database: Database) -> None:
    async with database.operation() as operation:
        operation.emit(Unheard(1))
        operation.emit(OrderPlaced(1, 5))
    await until(lambda: tally(host) == (1, 0))
    (waiting,) = await database.events.list()
    assert (waiting.type, waiting.state, waiting.attempts) == ("Unheard", EventState.WAITING, 0)


# -- the surroundings --------------------------------------------------------------------------------------------------
async def test_middleware_is_around_handlers_too(database: Database) -> None:
    calls: list[Call] = []

    async def note(call: Call, next: Next, /) -> Any:
        calls.append(call)
        return await next(call)

    async with copying_host(database, middleware=[note]) as host:
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
        (handled,) = [call for call in calls if call.name == "Copies.on_placed"]
        assert handled.kind == "event"
        assert handled.arguments == (OrderPlaced(1, 1),)
        assert handled.command_id == host.service(Copies).command_ids[0]


async def test_a_handler_is_no_part_of_what_the_host_was_started_in(database: Database, tmp_path: Path) -> None:
    elsewhere = Database(f"sqlite:///{tmp_path}/elsewhere.db")
    around: list[object] = []

    async def look(event: Event) -> None:
        around.append(running_operation())

    async with elsewhere.operation(), orders_host(database) as host:
        host.service(Ledger).before = look
        await asyncio.get_running_loop().create_task(emit(database), context=contextvars.Context())
        await until_delivered(database)
    assert around == [None]
    await elsewhere.dispose()


async def emit(database: Database) -> None:
    async with database.operation() as operation:
        operation.emit(OrderPlaced(1, 1))


async def test_an_idle_host_asks_once_a_period(database: Database) -> None:
    async with orders_host(database, quick(poll_period_s=0.05)) as host:
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
        with statements() as sent:
            await until(lambda: len([one for one in sent if "fusion_events" in one.text]) >= 6)
        asked = [one for one in sent if "fusion_events" in one.text][-4:]  # the last delivery may end in the first ones
        assert len({one.text for one in asked}) == 1, asked
        assert asked[0].text.startswith("SELECT")
        assert not any(one.is_compiled_anew for one in asked)


async def test_a_host_without_handlers_does_not_look(database: Database) -> None:
    async with App("orders", services=[Orders], database=database).local() as host:
        assert host.dispatcher is None


def test_options_make_sense() -> None:
    with pytest.raises(UsageError) as raised:
        EventOptions(max_attempts=0)
    assert raised.value.field == "max_attempts"
