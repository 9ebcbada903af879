"""Events reach their handlers: at least once, in the order of their key, each effect once."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fusion_cluster import (
    App,
    CommandOutcomeUnknown,
    ComputeService,
    Database,
    Overloaded,
    event_handler,
)
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.database.event_store import EventState
from fusion_cluster.events.options import Backoff
from fusion_cluster.host import LocalHost
from tests.faults.odd_errors import EXITS
from tests.unit.events.orders import (
    Base,
    EntryRow,
    Event,
    Ledger,
    OrderPlaced,
    Orders,
    entries,
    orders_host,
    quick,
    until_delivered,
)
from tests.waiting import until, until_so

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


@pytest.fixture
async def host(database: Database) -> AsyncIterator[LocalHost]:
    async with orders_host(database) as host:
        yield host


@pytest.fixture
def orders(host: LocalHost) -> Orders:
    return host.service(Orders)


@pytest.fixture
def ledger(host: LocalHost) -> Ledger:
    return host.service(Ledger)


def tally(host: LocalHost) -> tuple[int, int]:
    assert host.dispatcher is not None
    return host.dispatcher.delivered_count, host.dispatcher.failed_count


# -- order -------------------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_an_event_reaches_its_handler_and_what_that_changes_is_fresh(
    host: LocalHost, orders: Orders, ledger: Ledger, database: Database
) -> None:
    assert await ledger.entries(1) == []
    await orders.place(1, [7])
    await until_delivered(database)
    assert await ledger.entries(1) == [7]
    assert tally(host) == (1, 0)


async def test_events_of_one_key_are_handled_in_order_and_different_keys_at_the_same_time(
    orders: Orders, ledger: Ledger, database: Database
) -> None:
    gates = {order_id: asyncio.Event() for order_id in (1, 2)}

    async def wait(event: Event) -> None:
        assert isinstance(event, OrderPlaced)
        await gates[event.order_id].wait()

    ledger.before = wait
    await orders.place(1, [1, 2, 3])
    await orders.place(2, [10])
    await until(lambda: ledger.running == {1: 1, 2: 1})
    gates[2].set()
    await until_so(lambda: entries(database, 2))
    assert await entries(database) == [10]
    gates[1].set()
    await until_delivered(database)
    assert await entries(database, 1) == [1, 2, 3]


async def test_events_of_several_classes_keep_the_order_of_their_key(orders: Orders, database: Database) -> None:
    for number in range(0, 20, 2):
        await orders.place(1, [number])
        await orders.ship(1, number + 1)
    await until_delivered(database)
    assert await entries(database, 1) == list(range(20))


async def test_more_events_of_a_key_than_are_delivered_in_a_row(
    orders: Orders, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion_cluster.events.dispatcher.LONGEST_RUN", 10)
    await orders.place(1, list(range(35)))
    await until_delivered(database)
    assert await entries(database) == list(range(35))


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_events_are_delivered_at_a_time_than_the_options_say(
    database: Database, concurrency: int
) -> None:
    async with orders_host(database, quick(concurrency=concurrency)) as host:
        ledger = host.service(Ledger)
        most = 0
        full = asyncio.Event()

        async def look(event: Event) -> None:
            nonlocal most
            most = max(most, sum(ledger.running.values()))
            if most == concurrency:
                full.set()
            await full.wait()

        ledger.before = look
        async with database.operation() as operation:
            for order_id in range(12):
                operation.emit(OrderPlaced(order_id, order_id))
        await until_delivered(database)
        assert most == concurrency
        assert sorted(await entries(database)) == list(range(12))


# -- failures ----------------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_a_failed_event_is_tried_again_before_the_later_ones_of_its_key(
    host: LocalHost, orders: Orders, ledger: Ledger, database: Database
) -> None:
    attempts = itertools.count(1)

    async def fail_twice(event: Event) -> None:
        if event.number == 1 and next(attempts) < 3:
            raise LookupError("not yet")

    ledger.before = fail_twice
    await orders.place(1, [1, 2])
    await until_delivered(database)
    assert await entries(database) == [1, 2]
    assert tally(host) == (2, 2)


async def test_a_poisoned_event_blocks_its_key_until_it_is_dead_and_no_other_key(
    orders: Orders, ledger: Ledger, database: Database
) -> None:
    async def refuse_the_first(event: Event) -> None:
        if event.number == 1:
            raise LookupError("poison")

    ledger.before = refuse_the_first
    await orders.place(1, [1, 2])
    await orders.place(2, [10, 11])
    await until_delivered(database)
    assert await entries(database, 1) == [2]
    assert await entries(database, 2) == [10, 11]
    (dead,) = await database.events.list()
    assert (dead.state, dead.attempts, dead.event["number"]) == (EventState.DEAD, 3, 1)
    assert dead.error == "Ledger.on_order: LookupError: poison"


async def test_a_failing_event_waits_for_longer_each_time(database: Database) -> None:
    failed: list[int] = []

    def backoff(count: int) -> float:
        failed.append(count)
        return 3600.0 if count == 3 else 0.0

    async with orders_host(database, quick(backoff=backoff, max_attempts=10)) as host:

        async def refuse(event: Event) -> None:
            raise LookupError("no")

        host.service(Ledger).before = refuse
        await host.service(Orders).place(1, [1])
        await until(lambda: failed == [1, 2, 3])

        async def is_put_off() -> bool:
            (stored,) = await database.events.list()
            return (stored.due_at - stored.emitted_at).total_seconds() > 3500

        await until_so(is_put_off)


async def test_an_error_may_say_when_to_try_again(orders: Orders, ledger: Ledger, database: Database) -> None:
    async def refuse(event: Event) -> None:
        raise Overloaded("later", retry_after_s=3600)

    ledger.before = refuse
    await orders.place(1, [1])

    async def is_put_off() -> bool:
        (stored,) = await database.events.list()
        return (stored.due_at - stored.emitted_at).total_seconds() > 3500

    await until_so(is_put_off)


@pytest.mark.parametrize("no_time", [math.inf, math.nan, "soon", -5, 10**400], ids=lambda no_time: repr(no_time)[:8])
async def test_an_error_that_says_no_time_that_passes_is_tried_again_after_the_backoff(
    orders: Orders, ledger: Ledger, no_time: Any
) -> None:
    attempts: list[Event] = []

    async def refuse_once(event: Event) -> None:
        attempts.append(event)
        if len(attempts) == 1:
            raise Overloaded("later", retry_after_s=no_time)

    ledger.before = refuse_once
    await orders.place(1, [1])
    await until(lambda: len(attempts) == 2)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


@pytest.mark.both_databases
@pytest.mark.parametrize("error", [Unspeakable(), LookupError("a zero \0, a half \ud800"), LookupError("x" * 10_000)])
async def test_an_error_of_any_kind_can_be_written_down(
    orders: Orders, ledger: Ledger, database: Database, error: Exception
) -> None:
    async def refuse(event: Event) -> None:
        raise error

    ledger.before = refuse
    await orders.place(1, [1])
    await until_delivered(database)
    (dead,) = await database.events.list()
    assert (dead.state, dead.attempts) == (EventState.DEAD, 3)
    assert dead.error is not None
    assert dead.error.startswith(f"Ledger.on_order: {type(error).__name__}: ")


@pytest.mark.parametrize("backoff", [lambda failed: 1 / 0, lambda failed: math.nan, lambda failed: math.inf])
async def test_a_backoff_that_fails_or_makes_no_sense_is_replaced(database: Database, backoff: Backoff) -> None:
    async with orders_host(database, quick(backoff=backoff, max_attempts=2)) as host:
        ledger = host.service(Ledger)

        async def refuse_once(event: Event) -> None:
            ledger.before = None
            raise LookupError("no")

        ledger.before = refuse_once
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
        assert await entries(database) == [1]


async def test_a_handler_that_takes_too_long_has_failed(database: Database) -> None:
    async with orders_host(database, quick(timeout_s=0.5, max_attempts=1)) as host:
        ledger = host.service(Ledger)

        async def hang(event: Event) -> None:
            await asyncio.Event().wait()

        ledger.before = hang
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
        (dead,) = await database.events.list()
        assert dead.error is not None
        assert "longer than 0.5 s" in dead.error
        assert ledger.running == {1: 0}


async def test_a_handler_that_is_cancelled_from_within_has_failed(
    orders: Orders, ledger: Ledger, database: Database
) -> None:
    async def cancel(event: Event) -> None:
        raise asyncio.CancelledError

    ledger.before = cancel
    await orders.place(1, [1])
    await until_delivered(database)
    (dead,) = await database.events.list()
    assert (dead.state, dead.attempts) == (EventState.DEAD, 3)


@pytest.mark.parametrize("kind", EXITS)
async def test_a_handler_that_exits_has_failed_and_others_are_delivered(
    orders: Orders, ledger: Ledger, database: Database, kind: str
) -> None:
    async def exits(event: Event) -> None:
        raise EXITS[kind]()

    ledger.before = exits
    await orders.place(1, [1])
    await until_delivered(database)
    (dead,) = await database.events.list()
    assert (dead.state, dead.attempts) == (EventState.DEAD, 3)
    assert dead.error is not None
    assert f"BodyExited: Ledger.on_order raised {kind}" in dead.error
    ledger.before = None
    await orders.place(2, [2])
    await until_delivered(database)
    assert await entries(database) == [2]


# -- delays ------------------------------------------------------------------------------------------------------------
async def test_a_delayed_event_waits_and_lets_later_ones_of_its_key_go_first(
    host: LocalHost, orders: Orders, database: Database
) -> None:
    await orders.place(1, [1], delay_s=0.5)
    await orders.place(1, [2])
    await until(lambda: tally(host) == (1, 0))
    assert await entries(database) == [2]
    delayed = (await database.events.list())[0]
    assert (delayed.due_at - delayed.emitted_at).total_seconds() == pytest.approx(0.5, abs=0.01)
    await until_delivered(database)
    assert await entries(database) == [2, 1]


async def test_an_event_is_delivered_when_it_is_due_not_when_the_next_look_is(database: Database) -> None:
    async with orders_host(database, quick(poll_period_s=30.0)) as host:
        await host.service(Orders).place(1, [1], delay_s=0.3)
        await until_delivered(database, timeout_s=5)


# -- each effect once --------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_an_event_that_is_delivered_again_has_its_effect_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded = EventClaims.succeeded
    losses = itertools.count(1)

    async def lose(self: EventClaims, event: Any, *, wants_next: bool) -> Any:
        if next(losses) <= 2:
            raise ConnectionError("the database is gone")
        return await succeeded(self, event, wants_next=wants_next)

    monkeypatch.setattr(EventClaims, "succeeded", lose)
    async with orders_host(database, quick(claim_s=0.1)) as host:
        await host.service(Orders).place(1, [1, 2])
        await until_delivered(database)
        assert await entries(database) == [1, 2]
        assert len(host.service(Ledger).calls) == 2


async def test_a_handler_that_was_carried_out_but_not_confirmed_everywhere_is_not_carried_out_again(
    host: LocalHost, orders: Orders, ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = host.publish
    refusals = itertools.count(1)

    def unreachable(keys: Any, barrier: bool, operation_id: str = "") -> Any:
        if operation_id.endswith("Ledger.on_order") and next(refusals) == 1:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(CommandOutcomeUnknown("an owner could not be reached"))
            return failed
        return publish(keys, barrier, operation_id)

    monkeypatch.setattr(host, "publish", unreachable)
    await orders.place(1, [1])
    await until_delivered(database)
    assert await database.events.list() == []
    assert await entries(database) == [1]
    assert tally(host) == (1, 1)


async def test_what_a_handler_emits_goes_the_same_way(database: Database) -> None:
    class Chain(ComputeService):
        @event_handler
        async def on_placed(self, event: OrderPlaced) -> None:
            async with self.database.operation() as operation:
                operation.session.add(EntryRow(order_id=event.order_id, number=event.number, what="chain"))
                if event.number:
                    operation.emit(OrderPlaced(event.order_id, event.number - 1))

    await database.create_tables(Base.metadata)
    async with App("orders", services=[Orders, Chain], database=database, events=quick()).local() as host:
        await host.service(Orders).place(1, [5])
        await until_delivered(database)
    assert await entries(database) == [5, 4, 3, 2, 1, 0]
