"""Several hosts on one database: each event is delivered by one of them at a time, and by its slot's owner."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from fusion_cluster import App, ComputeService, Database, LogOptions, event_handler
from fusion_cluster.commands.emitted_event import emitted
from fusion_cluster.host import LocalHost
from fusion_cluster.testing import LocalCluster
from fusion_router.host import ClusterHost
from fusion_router.member import Member
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
from tests.waiting import until, until_so

pytest_plugins = ["tests.databases"]


def new_app(database: Database, **changes: object) -> App:
    return App("orders", services=[Orders, Ledger], database=database, events=quick(**changes))


async def test_hosts_on_one_database_never_run_one_handler_at_the_same_time(
    database_url: str, database: Database
) -> None:
    running: dict[int, int] = {}
    most = 0
    others = [Database(database_url) for _ in range(3)]

    async def overlap(event: Event) -> None:
        nonlocal most
        about = event.order_id if isinstance(event, OrderPlaced) else 0
        running[about] = running.get(about, 0) + 1
        most = max(most, running[about])
        await asyncio.sleep(0)
        running[about] -= 1

    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(orders_host(one, quick(poll_period_s=0.02))) for one in others]
        for host in hosts:
            host.service(Ledger).before = overlap
        for number in range(60):
            async with database.operation() as operation:
                operation.emit(OrderPlaced(number % 5, number))
        await until_delivered(database, timeout_s=30)
        assert most == 1
        assert sum(len(host.service(Ledger).calls) for host in hosts) == 60
    for order_id in range(5):
        assert await entries(database, order_id) == list(range(order_id, 60, 5))


async def test_each_shard_delivers_the_events_of_its_slots(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with LocalCluster(new_app(database), shards=3) as cluster:
        await asyncio.gather(*(cluster.service(Orders).place(order_id, [order_id]) for order_id in range(30)))
        await until_delivered(database)
        handled = {
            shard_id: {event.order_id for event in shard.host.service(Ledger).calls if isinstance(event, OrderPlaced)}
            for shard_id, shard in cluster.shards.items()
        }
        expected: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
        for order_id in range(30):
            expected[cluster.slot_map.owners[emitted(OrderPlaced(order_id)).slot]].add(order_id)
        assert handled == expected
        assert all(handled.values())


async def test_what_a_handler_changes_is_out_of_date_on_every_shard(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with LocalCluster(new_app(database), shards=3) as cluster:
        ledger = cluster.service(Ledger)
        before = [ledger.entries(order_id) for order_id in range(6)]
        assert [await one for one in before] == [[]] * 6
        for order_id in range(6):
            await cluster.service(Orders).place(order_id, [order_id])
        await until_delivered(database)
        assert [await ledger.entries(order_id) for order_id in range(6)] == [[order_id] for order_id in range(6)]


async def test_a_shard_that_is_back_delivers_what_its_predecessor_was_delivering(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with LocalCluster(new_app(database), shards=2, read_lease_s=0.2) as cluster:
        owner = cluster.slot_map.owners[emitted(OrderPlaced(1)).slot]
        ledger = cluster.shards[owner].host.service(Ledger)

        async def hang(event: Event) -> None:
            await asyncio.Event().wait()

        ledger.before = hang
        async with database.operation() as operation:
            operation.emit(OrderPlaced(1, 1))
        await until(lambda: ledger.running.get(1))
        await cluster.kill_shard(owner)
        await cluster.start_shard(owner)
        await until_delivered(database)
        assert await entries(database) == [1]


async def test_a_shard_that_leaves_gives_back_what_waits_for_other_owners_and_blames_no_handler(
    database: Database,
) -> None:
    await database.create_tables(Base.metadata)
    async with LocalCluster(new_app(database), shards=2) as cluster:
        owners = cluster.slot_map.owners
        order_id = next(
            order_id
            for order_id in range(100)
            if owners[emitted(OrderPlaced(order_id)).slot] == 0
            and cluster.owner("Ledger.entries", order_id).address.shard_id == 1
        )
        await cluster.shards[0].host.service(Ledger).entries(order_id)
        cluster.hold_links(1)
        async with database.operation() as operation:
            operation.emit(OrderPlaced(order_id, 1))

        async def is_noted() -> bool:
            return await entries(database) == [1]

        await until_so(is_noted)
        leaving = cluster.shards[0].host
        assert leaving.dispatcher is not None
        await until(lambda: leaving.publications._confirmations)
        await cluster.kill_shard(0)
        assert (leaving.dispatcher.failed_count, leaving.dispatcher.delivered_count) == (0, 0)
        (event,) = await database.events.list()
        assert (event.attempts, event.error) == (0, None)
        cluster.release_links(1)
        await cluster.start_shard(0)
        await until_delivered(database)
        assert await entries(database) == [1]


async def test_gateways_and_drivers_deliver_nothing(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with LocalCluster(new_app(database), shards=1) as cluster:
        assert cluster.host.dispatcher is None
        assert cluster.shards[0].host.dispatcher is not None


async def test_an_event_that_another_process_has_emitted_is_delivered_before_the_next_look(
    database_url: str, database: Database
) -> None:
    """The operation log wakes those who deliver: here, emitter and host share nothing but the database."""
    emitter = Database(database_url)
    async with orders_host(database, quick(poll_period_s=60.0)) as host:
        async with emitter.operation() as operation:
            operation.emit(OrderPlaced(1, 1))
        await until_delivered(database)
        assert len(host.service(Ledger).calls) == 1
    await emitter.dispose()


async def test_without_the_log_the_next_look_finds_it(database_url: str, database: Database) -> None:
    unheard = Database(database_url, log=LogOptions(follows=False))
    async with orders_host(unheard, quick(poll_period_s=0.1)):
        async with database.operation() as operation:
            operation.emit(OrderPlaced(1, 1))
        await until_delivered(database)
    assert await entries(database) == [1]
    await unheard.dispose()


async def test_a_host_in_another_thread_is_woken_by_a_commit_in_this_one(database_url: str, database: Database) -> None:
    shared = Database(database_url, log=LogOptions(follows=False))
    await shared.create_tables(Base.metadata)
    app = App("orders", services=[Orders, Ledger], database=shared, events=quick(poll_period_s=60.0))
    blocking = app.local_blocking()
    await asyncio.to_thread(blocking.__enter__)
    try:
        async with shared.operation() as operation:
            operation.emit(OrderPlaced(1, 1))
        await until_delivered(database)
    finally:
        await asyncio.to_thread(blocking.__exit__, None, None, None)
        await shared.dispose()
    assert await entries(database) == [1]


async def test_an_app_leaves_the_events_of_another_on_its_database_alone(database_url: str, database: Database) -> None:
    class Catalogue(ComputeService):
        def __init__(self) -> None:
            self.calls: list[Unheard] = []

        @event_handler
        async def on_unheard(self, event: Unheard) -> None:
            self.calls.append(event)

    other = App("catalogue", services=[Catalogue], database=Database(database_url), events=quick())
    async with other.local() as host:
        async with database.operation() as operation:
            operation.emit(OrderPlaced(1, 1))
            operation.emit(Unheard(1))
        await until(lambda: host.dispatcher is not None and host.dispatcher.delivered_count == 1)
        assert host.service(Catalogue).calls == [Unheard(1)]
        assert [stored.type for stored in await database.events.list()] == ["OrderPlaced"]
    async with orders_host(database):
        await until_delivered(database)
    assert await entries(database) == [1]


@pytest.mark.parametrize("shard_id", [None, 0])
async def test_a_member_without_a_slot_map_owns_no_slots(database: Database, shard_id: int | None) -> None:
    async def dial(address: object) -> None:
        raise AssertionError

    host = ClusterHost(new_app(database), dial=dial, peer_id="p", secret=b"s", shard_id=shard_id)  # type: ignore[arg-type]
    assert set(host.owned_slots() or b"\x01") == {0}
    await Member(host).stop()
    assert LocalHost(new_app(database)).owned_slots() is None
