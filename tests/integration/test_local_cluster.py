"""Shards in one process: what holds across shards, whatever carries the links."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_cluster.testing import LocalCluster
from tests.apps.sheet import CELLS_IN_ROW, Cells, Rows, Sheet, Store, app, fresh_store
from tests.waiting import until


@pytest.fixture
def store() -> Store:
    return fresh_store()


@pytest.fixture
async def cluster(store: Store) -> AsyncIterator[LocalCluster]:
    async with LocalCluster(app, shards=3, call_timeout_s=5.0, read_lease_s=1.0) as cluster:
        yield cluster
        cluster.validate()


async def test_a_change_on_one_shard_reaches_dependents_on_others_and_the_driver(
    cluster: LocalCluster, store: Store
) -> None:
    cells, sheet = cluster.service(Cells), cluster.service(Sheet)
    assert await sheet.total(4) == 0
    before = sheet.total(4)
    await cells.put(7, 5)
    assert not before.is_consistent
    assert await sheet.total(4) == 5
    owners = {cluster.owner("Cells.get", cell).address.shard_id for cell in range(20)}
    assert len(owners) > 1, "the test must cross shards"


async def test_only_what_depends_on_a_change_is_computed_again(cluster: LocalCluster, store: Store) -> None:
    cells, sheet = cluster.service(Cells), cluster.service(Sheet)
    await sheet.total(4)
    store.computed.clear()
    await cells.put(7, 5)
    await sheet.total(4)
    assert sorted(store.computed) == ["cell 7", "row 1", "sheet"]


async def test_each_key_is_computed_on_its_owner_alone(cluster: LocalCluster, store: Store) -> None:
    await cluster.service(Sheet).total(4)
    assert sorted(store.computed) == sorted(
        [f"cell {cell}" for cell in range(4 * CELLS_IN_ROW)] + [f"row {row}" for row in range(4)] + ["sheet"]
    )


async def test_a_repeated_read_is_served_by_the_replica(cluster: LocalCluster, store: Store) -> None:
    rows = cluster.service(Rows)
    first = rows.total(1)
    await first
    assert rows.total(1) is first
    assert rows.total(1).is_consistent


async def test_after_a_command_returned_no_member_serves_the_old_value(cluster: LocalCluster, store: Store) -> None:
    readers = [cluster.service(Sheet), *(shard.host.service(Sheet) for shard in cluster.shards.values())]
    cells = cluster.service(Cells)
    rng = random.Random(1)
    for value in range(200):
        for reader in readers:
            await reader.total(4)
        await cells.put(rng.randrange(20), value)
        expected = store.sheet(4)
        for reader in readers:
            node = reader.total.peek(4)
            assert node is None or not node.is_consistent or node.value == expected
            assert await reader.total(4) == expected


async def test_readers_that_never_stop_see_no_value_older_than_the_last_command(
    cluster: LocalCluster, store: Store
) -> None:
    committed = 0
    stop = asyncio.Event()
    reads = 0

    async def read(sheet: Sheet) -> None:
        nonlocal reads
        while not stop.is_set():
            floor = committed
            total = await sheet.total(4)
            assert total >= floor, f"read {total} after {floor} was committed"
            reads += 1
            await asyncio.sleep(0)

    readers = [
        asyncio.create_task(read(host.service(Sheet)))
        for host in [cluster.host, *(shard.host for shard in cluster.shards.values())]
    ]
    cells = cluster.service(Cells)
    for value in range(1, 300):
        await cells.put(13, value)  # totals only rise
        committed = value
    stop.set()
    await asyncio.gather(*readers)
    assert reads > 300


async def test_a_reader_after_a_command_never_joins_a_computation_that_began_before_it(
    cluster: LocalCluster, store: Store
) -> None:
    cells, sheet = cluster.service(Cells), cluster.service(Sheet)
    store.gate = asyncio.Event()
    slow = asyncio.create_task(_value(sheet, 1))
    await until(lambda: len(store.computed) == 2 + CELLS_IN_ROW)
    await cells.put(2, 9)  # cell 2 has been read as 0 and is held up: sheet → row → cell all compute
    late = asyncio.create_task(_value(sheet, 1))
    await asyncio.sleep(0)
    store.gate.set()
    assert await late == 9
    assert await slow in (0, 9)
    assert await sheet.total(1) == 9


async def test_keys_of_other_shards_are_invalidated_before_the_command_returns(
    cluster: LocalCluster, store: Store
) -> None:
    cells, sheet = cluster.service(Cells), cluster.service(Sheet)
    await sheet.total(4)
    await cells.put_many(0, list(range(20)))
    assert await sheet.total(4) == sum(range(20))


async def test_a_plain_invalidation_can_be_awaited_until_the_owner_has_it(cluster: LocalCluster, store: Store) -> None:
    cells = cluster.service(Cells)
    assert await cells.get(3) == 0
    store.cells[3] = 8
    await cells.get.invalidate(3)
    assert await cells.get(3) == 8


async def test_two_readers_of_one_replica_cost_one_subscription_and_the_last_one_gone_releases_it(
    cluster: LocalCluster, store: Store
) -> None:
    cells = cluster.service(Cells)
    owner = cluster.owner("Cells.get", 3)
    assert list(await asyncio.gather(_get(cells, 3), _get(cells, 3))) == [0, 0]
    assert owner.serving.subscription_count == 1
    node = cells.get.peek(3)
    assert node is not None
    node.invalidate()  # gone here: the owner's computed stays, the subscription does not
    await until(lambda: owner.serving.subscription_count == 0)
    assert owner.host.service(Cells).get.peek(3) is not None


async def test_a_reader_that_leaves_cancels_the_computation_at_the_owner(cluster: LocalCluster, store: Store) -> None:
    reader = asyncio.create_task(_forever(cluster.service(Cells), 3))
    await until(lambda: store.computed == ["forever 3"])
    reader.cancel()
    await until(lambda: store.computed == ["forever 3", "left 3"])
    await until(lambda: cluster.owner("Cells.get", 3).serving.subscription_count == 0)


async def test_an_error_of_the_owner_is_the_callers(cluster: LocalCluster, store: Store) -> None:
    with pytest.raises(ValueError, match="cell 3 is broken"):
        await cluster.service(Cells).fail(3)


async def test_a_killed_shard_comes_back_and_readers_succeed(cluster: LocalCluster, store: Store) -> None:
    cells, sheet = cluster.service(Cells), cluster.service(Sheet)
    await sheet.total(4)
    shard_id = cluster.owner("Cells.get", 3).address.shard_id
    await cluster.kill_shard(shard_id)
    store.cells[3] = 4  # changed by somebody while nobody could tell
    reader = asyncio.create_task(_value(sheet, 4))
    await asyncio.sleep(0)
    await cluster.start_shard(shard_id)
    await reader
    await cells.put(4, 1)
    assert await sheet.total(4) == store.sheet(4)


async def test_replicas_of_a_killed_shard_are_invalid_at_once(cluster: LocalCluster, store: Store) -> None:
    sheet = cluster.service(Sheet)
    await sheet.total(4)
    node = sheet.total(4)
    await cluster.kill_shard(cluster.owner("Sheet.total", 4).address.shard_id)
    await until(lambda: not node.is_consistent)


async def test_a_shard_that_stays_away_is_unavailable_at_the_deadline(store: Store) -> None:
    async with LocalCluster(app, shards=2, call_timeout_s=0.3) as cluster:
        shard_id = cluster.owner("Cells.get", 3).address.shard_id
        await cluster.kill_shard(shard_id)
        with pytest.raises(ShardUnavailable):
            await cluster.service(Cells).get(3)
        with pytest.raises(ShardUnavailable):
            await cluster.service(Cells).put(3, 1)


async def test_a_member_that_reads_through_another_cluster_member_needs_a_known_service(cluster: LocalCluster) -> None:
    class Unknown(Cells):
        pass

    with pytest.raises(UsageError, match="Unknown"):
        cluster.service(Unknown)


async def _value(sheet: Sheet, rows: int) -> int:
    return await sheet.total(rows)


async def _get(cells: Cells, cell: int) -> int:
    return await cells.get(cell)


async def _forever(cells: Cells, cell: int) -> int:
    return await cells.forever(cell)
