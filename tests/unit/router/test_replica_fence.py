"""A process that wakes up after its read leases serves none of its replicas, to itself or to others."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from fusion_cluster.protocol.slot_map import SlotMap
from fusion_cluster.testing import LocalCluster
from fusion_router.host import ClusterHost
from tests.apps.sheet import Cells, Rows, Store, app, fresh_store
from tests.waiting import until

CELL = 7
ROW = 1


@pytest.fixture
def store() -> Store:
    return fresh_store()


class Sleep:
    """Lets a host sleep, as far as its fence is concerned: its timers have not run when it goes on."""

    def __init__(self, host: ClusterHost) -> None:
        self._offset_s = 0.0
        self._fence = host.graph.fence
        self._fence._clock = host.graph.registry.clock = lambda: time.monotonic() + self._offset_s

    def an_hour(self) -> None:
        self._offset_s = 3600.0
        self._fence.lower(0.0)


def change_unheard(cluster: LocalCluster, store: Store, value: int) -> None:
    """Change the cell; the owner knows it, and what it says of it does not arrive until `release_links`."""
    owner = cluster.owner("Cells.get", CELL)
    cluster.hold_links(owner.address.shard_id)
    store.cells[CELL] = value
    owner.host.function("Cells.get").invalidate((CELL,))


def release(cluster: LocalCluster) -> None:
    for shard_id in cluster.shards:
        cluster.release_links(shard_id)


async def test_a_host_has_a_fence_while_it_has_replicas(store: Store) -> None:
    async with LocalCluster(app, shards=2, read_lease_s=3.0) as cluster:
        owner = cluster.owner("Cells.get", CELL).host
        assert cluster.host.graph.fence.fence_s == owner.graph.fence.fence_s == math.inf
        await cluster.service(Cells).get(CELL)
        assert owner.graph.fence.fence_s == math.inf
        assert 1.0 < cluster.host.graph.fence.fence_s - time.monotonic() <= 3.0


async def test_hits_go_on_past_the_fence_while_the_leases_are_renewed(store: Store) -> None:
    async with LocalCluster(app, shards=2, read_lease_s=0.3) as cluster:
        cells = cluster.service(Cells)
        assert await cells.get(CELL) == 0
        first_s = cluster.host.graph.fence.fence_s

        def passed() -> bool:
            assert cells.get.peek(CELL) is not None
            return first_s < cluster.host.graph.fence.fence_s < math.inf

        await until(passed)
        assert await cells.get(CELL) == 0
        assert store.computed == [f"cell {CELL}"]


async def test_a_host_that_has_slept_serves_no_replica(store: Store) -> None:
    async with LocalCluster(app, shards=2) as cluster:
        cells = cluster.service(Cells)
        sleep = Sleep(cluster.host)
        assert await cells.get(CELL) == 0
        change_unheard(cluster, store, 5)
        assert await cells.get(CELL) == 0
        sleep.an_hour()
        assert cells.get.peek(CELL) is None
        release(cluster)
        assert await cells.get(CELL) == 5


async def test_an_owner_that_has_slept_answers_nothing_that_it_has_from_others(store: Store) -> None:
    async with LocalCluster(app, shards=3) as cluster:
        rows = cluster.service(Rows)
        between = cluster.owner("Rows.total", ROW)
        assert between is not cluster.owner("Cells.get", CELL), "the test wants them apart"
        sleep = Sleep(between.host)
        assert await rows.total(ROW) == 0
        late = cluster.new_host("late").service(Rows)
        change_unheard(cluster, store, 5)
        sleep.an_hour()
        reading = asyncio.ensure_future(late.total(ROW).update())
        await until(lambda: between.host.function("Rows.total").table.get(ROW) is not None)
        release(cluster)
        assert (await reading).value == 5


async def test_an_owner_that_has_slept_takes_back_what_others_have_from_it_before_it_lets_them_serve_on(
    store: Store,
) -> None:
    async with LocalCluster(app, shards=3) as cluster:
        rows = cluster.service(Rows)
        between = cluster.owner("Rows.total", ROW)
        assert between is not cluster.owner("Cells.get", CELL), "the test wants them apart"
        sleep = Sleep(between.host)
        assert await rows.total(ROW) == 0
        held = rows.total(ROW)
        change_unheard(cluster, store, 5)
        sleep.an_hour()
        peer = cluster.host.links.peer(between.address.shard_id)
        assert peer is not None
        renewed_s = peer.lease_until_s
        await until(lambda: peer.lease_until_s > renewed_s or not held.is_consistent)
        assert not held.is_consistent
        release(cluster)
        assert await rows.total(ROW) == 5


async def test_what_came_over_a_link_that_is_being_closed_expires_too(store: Store) -> None:
    async with LocalCluster(app, shards=1) as cluster:
        cells = cluster.service(Cells)
        sleep = Sleep(cluster.host)
        assert await cells.get(CELL) == 0
        old = cluster.slot_map
        cluster.host.set_slot_map(old.without_shard(0))  # closes the link, in the next turn of the loop
        sleep.an_hour()
        assert cells.get.peek(CELL) is None
        assert isinstance(cluster.host.slot_map, SlotMap)
