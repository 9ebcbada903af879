"""Looking at the outbox, having events tried again, discarding them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fusion_cluster import Database
from fusion_cluster.database.event_store import EventState
from fusion_cluster.host import LocalHost
from tests.unit.events.orders import (
    Event,
    Ledger,
    OrderPlaced,
    Orders,
    OrderShipped,
    entries,
    orders_host,
    quick,
    until_delivered,
)
from tests.waiting import until, until_so

pytest_plugins = ["tests.databases"]


class Poison:
    """What makes a ledger refuse events, until it is taken away."""

    def __init__(self) -> None:
        self.is_there = True

    async def __call__(self, event: Event) -> None:
        if self.is_there:
            raise LookupError("poison")


@pytest.fixture
def poison() -> Poison:
    return Poison()


@pytest.fixture
async def host(database: Database, poison: Poison) -> AsyncIterator[LocalHost]:
    """A host whose events all end dead."""
    async with orders_host(database, quick(max_attempts=1)) as host:
        host.service(Ledger).before = poison
        yield host


async def numbers(database: Database, **chosen: object) -> list[int]:
    return [stored.event["number"] for stored in await database.events.list(**chosen)]  # type: ignore[arg-type]


async def test_a_dead_letter_is_tried_again_with_all_attempts_before_it(
    host: LocalHost, database: Database, poison: Poison
) -> None:
    await host.service(Orders).place(1, [1, 2])
    await until_delivered(database)
    first, second = await database.events.list(state=EventState.DEAD)
    poison.is_there = False
    assert await database.events.retry(second.event_id)
    await until_delivered(database)
    assert await entries(database) == [2]
    poison.is_there = True
    assert await database.events.retry(first.event_id)
    await until_delivered(database)
    (dead,) = await database.events.list()
    assert (dead.state, dead.attempts) == (EventState.DEAD, 1)


async def test_all_dead_letters_or_those_of_a_class_are_tried_again(
    host: LocalHost, database: Database, poison: Poison
) -> None:
    await host.service(Orders).place(1, [1, 2])
    await host.service(Orders).ship(2, 3)
    await until_delivered(database)
    poison.is_there = False
    assert await database.events.retry_dead(type="OrderShipped") == 1
    await until_delivered(database)
    assert await entries(database) == [3]
    assert await database.events.retry_dead() == 2
    await until_delivered(database)
    assert await entries(database, 1) == [1, 2]
    assert await database.events.retry_dead() == 0


async def test_a_delayed_event_can_be_hurried(host: LocalHost, database: Database, poison: Poison) -> None:
    poison.is_there = False
    await host.service(Orders).place(1, [1], delay_s=3600)
    (delayed,) = await database.events.list()
    assert await database.events.retry(delayed.event_id)
    await until_delivered(database)
    assert await entries(database) == [1]


async def test_events_are_discarded_one_by_one_or_all_that_are_dead(
    host: LocalHost, database: Database, poison: Poison
) -> None:
    await host.service(Orders).place(1, [1, 2, 3])
    await host.service(Orders).ship(2, 4)
    await until_delivered(database)
    await host.service(Orders).place(1, [5], delay_s=3600)
    first, *_ = await database.events.list()
    assert await database.events.discard(first.event_id)
    assert not await database.events.discard(first.event_id)
    assert not await database.events.retry(first.event_id)
    assert await database.events.discard_dead(type="OrderShipped") == 1
    assert await numbers(database) == [2, 3, 5]
    assert await database.events.discard_dead() == 2
    assert await numbers(database) == [5], "what waits is not dead"


async def test_the_list_is_chosen_from_and_comes_in_pages(database: Database) -> None:
    async with database.operation() as operation:
        for number in range(5):
            operation.emit(OrderPlaced(1, number))
        operation.emit(OrderShipped(1, 5))
    assert await numbers(database) == list(range(6))
    assert await numbers(database, type="OrderShipped") == [5]
    assert await numbers(database, state=EventState.DEAD) == []
    page = await database.events.list(limit=2)
    assert [stored.event["number"] for stored in page] == [0, 1]
    assert await numbers(database, limit=2, after=page[-1].position) == [2, 3]


async def test_old_dead_letters_are_deleted_when_a_host_starts(database: Database) -> None:
    async with orders_host(database, quick(max_attempts=1)) as host:
        host.service(Ledger).before = Poison()
        await host.service(Orders).place(1, [1])
        await until_delivered(database)
    async with orders_host(database, quick(dead_retention_s=1e9)) as host:
        await host.service(Orders).place(2, [2])
        await until(lambda: host.dispatcher is not None and host.dispatcher.delivered_count == 1)
        assert await numbers(database) == [1]
    async with orders_host(database, quick(dead_retention_s=1e-9)):

        async def is_empty() -> bool:
            return await numbers(database) == []

        await until_so(is_empty)
