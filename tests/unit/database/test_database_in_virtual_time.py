"""What hosts do with a database in their own time: in virtual time, with SQLite, whose threads are waited for."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fusion_cluster import App, Database
from fusion_cluster.database import LogOptions
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.events.claims import ClaimedEvent, Verdict
from fusion_cluster.services import Sessions
from fusion_cluster.testing import LocalCluster, VirtualRuntime, run_in_virtual_time
from tests.apps.shelves import Base as ShelvesBase
from tests.apps.shelves import Shelves, Stock
from tests.log_entries import logged
from tests.unit.events.orders import Base as OrdersBase
from tests.unit.events.orders import Event, Ledger, OrderPlaced, Orders, quick

Test = Callable[[str], Coroutine[Any, Any, None]]


def in_virtual_time(test: Test) -> Callable[[Path], None]:
    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        run_in_virtual_time(test(f"sqlite:///{tmp_path / 'test.db'}"))

    del run.__wrapped__
    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


def shelves_app(url: str, log: LogOptions) -> App:
    return App("shelves", services=[Shelves, Stock], database=Database(url, log=log))


@in_virtual_time
async def test_what_one_host_commits_the_other_sees_within_the_period(url: str) -> None:
    runtime, log = VirtualRuntime(), LogOptions(period_s=5.0)
    here, there = shelves_app(url, log), shelves_app(url, log)
    assert here.database is not None
    await here.database.create_tables(ShelvesBase.metadata)
    async with here.local(runtime=runtime) as writer, there.local(runtime=runtime) as reader:
        for amount in range(1, 4):
            shown = reader.service(Shelves).amount(1)
            await shown
            await writer.service(Shelves).put(1, amount)
            began_s = now_s()
            await shown.when_invalidated()
            assert now_s() - began_s <= 5.1
            assert await reader.service(Shelves).amount(1) == amount


@in_virtual_time
async def test_no_time_passes_while_the_database_works(url: str) -> None:
    app = shelves_app(url, LogOptions())
    assert app.database is not None
    await app.database.create_tables(ShelvesBase.metadata)
    async with app.local(runtime=VirtualRuntime()) as host:
        began_s = now_s()
        for shelf_id in range(20):
            await host.service(Shelves).put(shelf_id, 1)
            assert await host.service(Shelves).amount(shelf_id) == 1
        assert now_s() == began_s


@in_virtual_time
async def test_old_entries_are_trimmed_when_their_time_has_come(url: str) -> None:
    app = shelves_app(url, LogOptions(retention_s=120.0, trim_period_s=10.0))
    assert app.database is not None
    await app.database.create_tables(ShelvesBase.metadata)
    async with app.local(runtime=VirtualRuntime()) as host:
        await host.service(Shelves).put(1, 1)
        await asyncio.sleep(100)
        await host.service(Shelves).put(2, 2)
        assert len(await logged(app.database)) == 2
        await asyncio.sleep(35)
        assert len(await logged(app.database)) == 1
        await asyncio.sleep(100)
        assert await logged(app.database) == []


@in_virtual_time
async def test_a_delayed_event_and_its_retries_come_in_their_time(url: str) -> None:
    database = Database(url)
    await database.create_tables(OrdersBase.metadata)
    app = App(
        "orders", services=[Orders, Ledger], database=database, events=quick(backoff=lambda failed: 10.0 * failed)
    )
    async with app.local(runtime=VirtualRuntime()) as host:
        ledger, tries_s = host.service(Ledger), []
        is_done = asyncio.Event()

        async def fail_twice(event: Event) -> None:
            tries_s.append(now_s())
            if len(tries_s) < 3:
                raise ValueError(event)
            is_done.set()

        ledger.before = fail_twice
        began_s = now_s()
        await host.service(Orders).place(1, [1], delay_s=60.0)
        await is_done.wait()
        assert [at_s - began_s for at_s in tries_s] == pytest.approx([60.0, 70.0, 90.0], abs=0.2)


@in_virtual_time
async def test_what_a_host_that_died_had_claimed_is_delivered_when_the_claim_is_over(url: str) -> None:
    runtime, database = VirtualRuntime(), Database(url)
    await database.create_tables(OrdersBase.metadata)
    database.live_by(runtime)
    claims = EventClaims(database, me="the dead", types=["OrderPlaced"], clock=runtime.clock.wall, claim_s=30.0)
    await claims.open(lambda: None)
    async with database.operation() as operation:
        operation.emit(OrderPlaced(1, 1))

    def judge(event: ClaimedEvent) -> Verdict:
        raise AssertionError(event)

    claimed = await claims.claim(10, owned=None, horizon_s=1.0, judge=judge)
    assert len(claimed.events) == 1
    claims.close()
    app = App("orders", services=[Orders, Ledger], database=database, events=quick())
    async with app.local(runtime=runtime) as host:
        began_s, is_delivered = now_s(), asyncio.Event()

        async def note(event: Event) -> None:
            is_delivered.set()

        host.service(Ledger).before = note
        await is_delivered.wait()
        assert 30.0 <= now_s() - began_s <= 32.0


@in_virtual_time
async def test_presence_ends_when_nobody_has_touched_the_session_for_its_time(url: str) -> None:
    app = App("presence", services=[Sessions], database=Database(url))
    async with LocalCluster(app, shards=2, runtime=VirtualRuntime()) as cluster:
        sessions, names = cluster.service(Sessions), itertools.count()
        session_id = f"{next(names):032}"
        await sessions.sign_in(session_id, "ann")
        present = sessions.is_present("ann")
        assert await present
        began_s = now_s()
        await sessions.is_present("ann").when(lambda is_there: not is_there)
        assert now_s() - began_s == pytest.approx(Sessions.presence_timeout_s, abs=2.0)
        await sessions.touch(session_id)
        assert await sessions.is_present("ann")
