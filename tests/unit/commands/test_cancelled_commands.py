"""A command cancelled at each of its awaits in turn: rolled back whole, or committed and published whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from sqlalchemy import event, select
from sqlalchemy.pool import AsyncAdaptedQueuePool

from fusion_cluster.app import App
from fusion_cluster.commands.completion import complete
from fusion_cluster.database import Database
from fusion_cluster.graph import Cause, Key
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Base, ShelfRow, Shelves, Stock
from tests.faults.stepped import cancelled_at
from tests.waiting import until

pytest_plugins = ["tests.databases"]


class Published(LocalHost):
    """A host that remembers what was published; its publications take a few turns of the loop."""

    keys: list[Key]

    def publish(self, keys: Mapping[Key, Cause], barrier: bool, operation_id: str = "") -> asyncio.Future[None]:
        super().publish(keys, barrier, operation_id)
        self.keys.extend(keys)
        loop = asyncio.get_running_loop()
        confirmed: asyncio.Future[None] = loop.create_future()
        loop.call_soon(loop.call_soon, _confirm, confirmed)
        return confirmed


def _confirm(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.done():
        confirmed.set_result(None)


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[Published]:
    database = Database(database_url)
    await database.create_tables(Base.metadata)
    host = Published(App("shelves", [Shelves, Stock], database=database), max_nodes=1000)
    host.keys = []
    yield host
    host.graph.validate()
    await host.close()
    await database.dispose()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def amounts(database: Database) -> dict[int, int]:
    async with database.session() as session:
        rows = [await session.get(ShelfRow, number) for number in (1, 2)]
        return {row.id: row.amount for row in rows if row is not None}


def commits_of(database: Database) -> list[str]:
    commits: list[str] = []
    event.listen(database.engines().writing.sync_engine, "commit", lambda connection: commits.append("commit"))
    return commits


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("nested", [False, True])
async def test_cancelled_at_any_await_it_is_done_and_published_or_not_done_at_all(
    host: Published, nested: bool, times: int
) -> None:
    shelves, stock = host.service(Shelves), host.service(Stock)
    database = shelves.database
    commits = commits_of(database)
    await shelves.put(1, 100)
    await shelves.put(2, 0)
    cancel_at, outcomes = 0, []
    while True:
        before = await amounts(database)
        old = shelves.total(1, 2)
        assert await old == sum(before.values())
        commits.clear()
        host.keys.clear()
        expected = {1: before[1] - 1, 2: before[2] + 1} if nested else {**before, 1: before[1] - 1}
        run = stock.move(1, 2, 1) if nested else shelves.put(1, before[1] - 1)
        is_cancelled = await cancelled_at(run, cancel_at, times=times)
        after = await amounts(database)
        if after == expected:
            outcomes.append("done")
            assert {key.arguments for key in host.keys} == ({(1,), (2,)} if nested else {(1,)})
            assert not old.is_consistent
        else:
            outcomes.append("not done")
            assert after == before
            assert not commits or is_cancelled
            assert host.keys == []
            assert old.is_consistent
        assert not len(host.turns)
        # The key and the connection are free again.
        assert await asyncio.wait_for(shelves.put(1, after[1]), 10)
        assert await shelves.total(1, 2) == sum(after.values())
        if not is_cancelled:
            break
        cancel_at += 1
    # Early cancellations undo it, late ones do not, and there is one point between.
    assert outcomes == sorted(outcomes, reverse=True)
    assert {"done", "not done"} == set(outcomes)
    assert cancel_at >= 4


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_cancelled_operation_with_savepoints_and_streams_leaves_the_database_usable(
    host: Published, times: int
) -> None:
    database = host.service(Shelves).database

    async def write() -> int:
        async with database.operation() as operation:
            async with operation.session.begin_nested():
                await operation.session.merge(ShelfRow(id=1, amount=1))
            await operation.session.connection()
            return len([row async for row in await operation.session.stream_scalars(select(ShelfRow))])

    cancel_at = 0
    while True:
        is_cancelled = await cancelled_at(write(), cancel_at, times=times)
        pool = database.engines().writing.sync_engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        assert pool.checkedout() == 0
        assert await asyncio.wait_for(write(), 10) == 1
        if not is_cancelled:
            break
        cancel_at += 1
    assert cancel_at > 5


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_read_leaves_its_connection_usable(host: Published, times: int) -> None:
    shelves = host.service(Shelves)
    await shelves.put(1, 5)
    for cancel_at in range(12):

        async def read() -> int:
            async with shelves.database.session() as session:
                return (await session.get_one(ShelfRow, 1)).amount

        await cancelled_at(read(), cancel_at, times=times)
        assert await asyncio.wait_for(read(), 10) == 5


async def test_a_timeout_around_a_command_is_a_timeout(host: Published) -> None:
    shelves = host.service(Shelves)

    async def never(place: str) -> None:
        if place == "1: written":
            await asyncio.Event().wait()

    shelves.at = never  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await shelves.put(1, 5)
    assert await amounts(shelves.database) == {}


# -- complete ----------------------------------------------------------------------------------------------------------
async def test_complete_returns_what_the_coroutine_returns() -> None:
    async def one() -> int:
        await asyncio.sleep(0)
        return 1

    assert await complete(one()) == 1


async def test_complete_raises_what_the_coroutine_raises() -> None:
    async def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await complete(fail())


@pytest.mark.parametrize("fails", [False, True])
async def test_complete_ends_with_the_coroutine_however_often_it_is_cancelled(fails: bool) -> None:
    may_end, ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        await may_end.wait()
        ended = True
        if fails:
            raise LookupError("no")

    async def caller() -> None:
        await complete(work())

    task = asyncio.create_task(caller())
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
