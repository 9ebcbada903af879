"""Keys that move to another shard while their owner is told of a change: it is the new owner that has to know."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from fusion_cluster import App, ComputeService, Database, LogOptions, compute_method
from fusion_cluster.errors import CommandOutcomeUnknown, ShardUnavailable
from fusion_cluster.graph import Key
from fusion_cluster.graph.why.cause import UNKNOWN
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_cluster.testing import LocalCluster
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE
from fusion_router.host import ClusterHost
from fusion_router.local_cluster import LocalShard
from fusion_router.member import Member
from tests.apps.sheet import Cells, Store, app, fresh_store
from tests.apps.shelves import Base, Shelves, Stock
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


@pytest.fixture
def store() -> Store:
    return fresh_store()


class Texts(ComputeService):
    @compute_method
    async def length(self, text: str) -> int:
        return len(text)


def moved(cluster: LocalCluster, targets: Mapping[Key, int]) -> SlotMap:
    """The next slot map, in which other shards own these keys."""
    owners = array("H", cluster.slot_map.owners)
    for key, shard_id in targets.items():
        owners[cluster.host.method_of(key).slot(key.arguments)] = shard_id
    return replace(cluster.slot_map, version=cluster.slot_map.version + 1, owners=owners)


def tell(cluster: LocalCluster, slot_map: SlotMap, *, but: Iterable[ClusterHost] = ()) -> None:
    """Give a slot map to all members but some."""
    late = set(but)
    cluster.slot_map = slot_map
    for host in cluster.hosts:
        if host not in late:
            host.set_slot_map(slot_map)


def key(cell: int) -> Key:
    return Key("Cells", "get", (cell,))


def cells_of(cluster: LocalCluster, shard_id: int) -> list[int]:
    """The first cells that a shard owns."""
    return [cell for cell in range(100) if cluster.owner("Cells.get", cell).address.shard_id == shard_id]


def count_requests(shard: LocalShard, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each invalidation request that a shard gets from now on: whether it owned all of the keys."""
    requests: list[bool] = []
    apply = shard.host.invalidations.apply_request

    def counted(request: object, peer_id: str) -> bool:
        requests.append(apply(request, peer_id))  # type: ignore[arg-type]
        return requests[-1]

    monkeypatch.setattr(shard.host.invalidations, "apply_request", counted)
    return requests


def assert_no_barrier_is_open(cluster: LocalCluster) -> None:
    assert not any(host.barriers._engagements for host in cluster.hosts)


async def read_by_all(cluster: LocalCluster, shelf_id: int) -> list[int]:
    return [await host.service(Shelves).amount(shelf_id) for host in cluster.hosts]


# -- commands ----------------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_a_command_returns_when_the_new_owner_knows_of_it_and_nobody_reads_what_is_old(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard that runs it has the slot map of before; nothing but its push tells anybody of the change."""
    database = Database(database_url, log=LogOptions(follows=False))
    await database.create_tables(Base.metadata)
    async with LocalCluster(App("shelves", [Shelves, Stock], database=database), shards=3) as cluster:
        shelf_id = next(
            shelf_id
            for shelf_id in range(100)
            if cluster.owner("Stock.clear", shelf_id) is cluster.shards[0]
            and cluster.owner("Shelves.amount", shelf_id) is cluster.shards[1]
        )
        await cluster.service(Shelves).put(shelf_id, 5)
        assert await read_by_all(cluster, shelf_id) == [5] * 4
        writer = cluster.shards[0].host
        newest = moved(cluster, {Key("Shelves", "amount", (shelf_id,)): 2})
        tell(cluster, newest, but=[writer])
        others = [host for host in cluster.hosts if host is not writer]
        nodes = [host.service(Shelves).amount(shelf_id) for host in others]
        assert [await node for node in nodes] == [5] * 3
        requests = count_requests(cluster.shards[1], monkeypatch)
        clearing = asyncio.create_task(cluster.service(Stock).clear(shelf_id))
        await until(lambda: len(requests) >= 2)
        assert not any(requests)
        assert not clearing.done()
        assert cluster.shards[2].host.service(Shelves).amount.peek(shelf_id), "the new owner does not know of it yet"
        writer.set_slot_map(newest)
        await clearing
        assert not any(node.is_consistent for node in nodes)
        assert await read_by_all(cluster, shelf_id) == [0] * 4
        assert_no_barrier_is_open(cluster)


async def test_a_command_whose_shard_hears_of_no_newer_slot_map_is_not_confirmed(store: Store) -> None:
    async with LocalCluster(app, shards=3, call_timeout_s=0.3) as cluster:
        writer = cluster.shards[0].host
        first, theirs = next(
            (first, theirs)
            for first in cells_of(cluster, 0)
            for theirs in range(first + 1, first + 10)
            if cluster.owner("Cells.get", theirs) is cluster.shards[1]
        )
        newest = moved(cluster, {key(theirs): 2})
        tell(cluster, newest, but=[writer])
        with pytest.raises(CommandOutcomeUnknown, match="not everywhere confirmed"):
            await writer.service(Cells).put_many(first, [1] * 10)
        writer.set_slot_map(newest)
        await until(lambda: not writer.publications._deliveries.tasks)
        assert_no_barrier_is_open(cluster)


# -- publications ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("barrier", [False, True])
async def test_keys_go_to_as_many_owners_as_they_have_by_now(store: Store, barrier: bool) -> None:
    async with LocalCluster(app, shards=4) as cluster:
        moving = cells_of(cluster, 1)[:4]
        writer = cluster.shards[0].host
        newest = moved(cluster, {key(cell): shard_id for shard_id, cell in enumerate(moving)})
        tell(cluster, newest, but=[writer])
        readers = [host.service(Cells) for host in cluster.hosts if host is not writer]
        # The first one moves to the writer, who does not know: nobody can read it now.
        nodes = [cells.get(cell) for cells in readers for cell in moving[1:]]
        for node in nodes:
            await node
        store.cells.update(dict.fromkeys(moving, 7))
        publication = asyncio.ensure_future(writer.publish(dict.fromkeys(map(key, moving), UNKNOWN), barrier))
        done, _ = await asyncio.wait([publication], timeout=0.1)
        assert not done
        writer.set_slot_map(newest)
        await publication
        if barrier:
            assert not any(node.is_consistent for node in nodes)
        for host in cluster.hosts:
            assert [await host.service(Cells).get(cell) for cell in moving] == [7] * 4
        assert_no_barrier_is_open(cluster)


@pytest.mark.parametrize("barrier", [False, True])
async def test_an_owner_that_does_not_come_back_is_not_waited_for_when_others_have_its_slots(
    store: Store, barrier: bool
) -> None:
    async with LocalCluster(app, shards=2, call_timeout_s=60.0) as cluster:
        cell, *rest = cells_of(cluster, 0)
        writer = cluster.new_host("writer")
        await cluster.kill_shard(0)
        keys = [[key(cell)], *([key(other)] for other in rest[:3])]
        publications = [asyncio.ensure_future(writer.publish(dict.fromkeys(some, UNKNOWN), barrier)) for some in keys]
        tell(cluster, moved(cluster, dict.fromkeys(map(key, (cell, *rest)), 1)), but=[writer])
        node = cluster.host.service(Cells).get(cell)
        await node
        done, _ = await asyncio.wait(publications, timeout=0.1)
        assert not done
        writer.set_slot_map(cluster.slot_map)
        async with asyncio.timeout(5.0):
            await asyncio.gather(*publications)
        await until(lambda: not node.is_consistent)
        assert_no_barrier_is_open(cluster)


async def test_a_new_owner_that_does_not_know_of_it_yet_is_told_until_it_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LocalCluster(app, shards=2) as cluster:
        cell, *_ = cells_of(cluster, 0)
        new_owner = cluster.shards[1].host
        writer = cluster.new_host("writer")
        tell(cluster, moved(cluster, {key(cell): 1}), but=[new_owner])
        requests = count_requests(cluster.shards[1], monkeypatch)
        publication = asyncio.ensure_future(writer.publish({key(cell): UNKNOWN}, True))
        await until(lambda: len(requests) >= 2)
        assert not publication.done()
        new_owner.set_slot_map(cluster.slot_map)
        await publication
        assert (any(requests[:-1]), requests[-1]) == (False, True)


async def test_the_barrier_reaches_the_new_owners_of_keys_of_any_message(store: Store) -> None:
    """Several messages, of which the last one alone carries the barrier; what has moved is in the first one."""
    async with LocalCluster(App("texts", [Texts]), shards=3) as cluster:
        texts = [str(number) * (MAX_PAYLOAD_SIZE // 5) for number in range(30)]
        owned = [text for text in texts if cluster.owner("Texts.length", text) is cluster.shards[0]][:7]
        assert len(owned) > 5
        keys = [Key("Texts", "length", (text,)) for text in owned]
        writer = cluster.new_host("writer")
        newest = moved(cluster, {keys[0]: 1})
        tell(cluster, newest, but=[writer])
        nodes = [host.service(Texts).length(text) for host in cluster.hosts if host is not writer for text in owned]
        for node in nodes:
            await node
        publication = asyncio.ensure_future(writer.publish(dict.fromkeys(keys, UNKNOWN), True))
        done, _ = await asyncio.wait([publication], timeout=0.1)
        assert not done
        writer.set_slot_map(newest)
        await publication
        assert not any(node.is_consistent for node in nodes)
        assert_no_barrier_is_open(cluster)


@pytest.mark.parametrize("barrier", [False, True])
async def test_a_member_that_leaves_waits_for_no_newer_slot_map(store: Store, barrier: bool) -> None:
    async with LocalCluster(app, shards=2, call_timeout_s=60.0) as cluster:
        cell, *_ = cells_of(cluster, 0)
        leaving = cluster.new_host("leaving")
        tell(cluster, moved(cluster, {key(cell): 1}), but=[leaving])
        publication = asyncio.ensure_future(leaving.publish({key(cell): UNKNOWN}, barrier))
        await asyncio.wait([publication], timeout=0.1)
        async with asyncio.timeout(5.0):
            await Member(leaving).stop()
            with pytest.raises(ShardUnavailable, match="left"):
                await publication
