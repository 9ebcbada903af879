"""Delays and consolidation in a cluster: the owner waits and decides, everybody else follows, nobody waits again."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.client.proxies import ClientHost
from fusion_cluster.testing import LocalCluster, run_in_virtual_time
from fusion_router.local_cluster import LocalShard

DELAY_S = 2.0


class Meters(ComputeService):
    """What is read here is owned by one shard of two, and has dependents on the other, too."""

    values: ClassVar[dict[int, int]]
    log: ClassVar[list[str]]

    @compute_method
    async def read(self, meter: int) -> int:
        return self.values[meter]

    @compute_method(invalidation_delay=DELAY_S)
    async def smooth(self, meter: int) -> int:
        self.log.append(f"smooth {meter}")
        return await self.read(meter)

    @compute_method(consolidation_delay=DELAY_S)
    async def tens(self, meter: int) -> int:
        self.log.append(f"tens {meter}")
        return await self.read(meter) // 10

    @compute_method(consolidation_delay=DELAY_S)
    async def sign(self, meter: int) -> bool:
        """Depends on nothing that would move with it."""
        return self.values[meter] > 0

    @command
    async def put(self, meter: int, value: int) -> None:
        self.values[meter] = value
        self.read.invalidate(meter)

    @command
    async def hint(self, meter: int, of: int) -> None:
        """Say of another meter, which may be owned by another shard, that its tens are others now."""
        self.tens.invalidate(of)
        self.smooth.invalidate(of)


class Walls(ComputeService):
    meters: Meters

    @compute_method
    async def shown(self, wall: int, meter: int) -> tuple[int, int]:
        self.meters.log.append(f"shown {wall}")
        return await self.meters.tens(meter), await self.meters.smooth(meter)


def in_a_cluster(test: Callable[[LocalCluster], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test with a cluster of two shards in virtual time."""

    async def main() -> None:
        Meters.values, Meters.log = dict.fromkeys(range(10), 0), []
        async with LocalCluster(App("meters", [Meters, Walls]), shards=2) as cluster:
            await test(cluster)

    def run() -> None:
        run_in_virtual_time(main())

    return run


def elsewhere(cluster: LocalCluster, meter: int) -> tuple[LocalShard, int]:
    """Return the shard that does not own a meter, and a wall that it owns."""
    owner = cluster.owner("Meters.tens", meter)
    for wall in range(100):
        shard = cluster.owner("Walls.shown", wall, meter)
        if shard is not owner:
            return shard, wall
    raise AssertionError("one shard owns everything")


@in_a_cluster
async def test_a_replica_follows_its_owner_and_waits_no_second_time(cluster: LocalCluster) -> None:
    meters = cluster.service(Meters)
    replica = meters.smooth(1)
    assert await replica == 0
    await meters.put(1, 5)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await replica.when_invalidated()
    assert loop.time() - began_s == pytest.approx(DELAY_S, abs=0.1)
    assert await meters.smooth(1) == 5


@in_a_cluster
async def test_a_command_returns_without_waiting_for_delays_that_were_asked_for(cluster: LocalCluster) -> None:
    """The lag of what has a delay begins at its owner before the command returns; all else is fresh then."""
    meters = cluster.service(Meters)
    await meters.read(1)
    await meters.smooth(1)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await meters.put(1, 5)
    assert loop.time() - began_s < 0.5
    assert (await meters.read(1), await meters.smooth(1)) == (5, 0)
    await asyncio.sleep(DELAY_S + 0.1)
    assert await meters.smooth(1) == 5


@in_a_cluster
async def test_who_says_that_a_key_has_changed_does_not_decide_for_its_owner(cluster: LocalCluster) -> None:
    meters = cluster.service(Meters)
    replicas = [meters.smooth(1), meters.tens(1)]
    for replica in replicas:
        await replica
    await meters.smooth.invalidate(1)
    await meters.tens.invalidate(1)
    assert [replica.is_consistent for replica in replicas] == [True, True]
    await asyncio.sleep(DELAY_S + 0.5)
    assert [replica.is_consistent for replica in replicas] == [False, True]
    assert Meters.log == ["smooth 1", "tens 1", "tens 1"]


@in_a_cluster
async def test_nobody_in_the_cluster_hears_of_an_equal_value(cluster: LocalCluster) -> None:
    shard, wall = elsewhere(cluster, 1)
    meters, walls = cluster.service(Meters), cluster.service(Walls)
    seen = [walls.shown(wall, 1), meters.tens(1), shard.host.service(Meters).tens(1)]
    assert await seen[0] == (0, 0)
    assert [await computed for computed in seen[1:]] == [0, 0]
    Meters.log.clear()
    other = next(meter for meter in range(2, 10) if cluster.owner("Meters.hint", meter, 1) is shard)
    await meters.hint(other, 1)  # a command on a shard that owns something else
    await asyncio.sleep(DELAY_S + 0.5)
    assert [computed.is_consistent for computed in seen] == [False, True, True]  # the wall shows what is smooth, too
    assert await walls.shown(wall, 1) == (0, 0)
    assert Meters.log == ["tens 1", f"shown {wall}", "smooth 1"]


@in_a_cluster
async def test_everybody_in_the_cluster_hears_of_another_value(cluster: LocalCluster) -> None:
    shard, wall = elsewhere(cluster, 1)
    meters, walls = cluster.service(Meters), cluster.service(Walls)
    assert await walls.shown(wall, 1) == (0, 0)
    replicas = [meters.tens(1), shard.host.service(Meters).tens(1)]
    assert [await replica for replica in replicas] == [0, 0]
    await meters.put(1, 30)
    await asyncio.sleep(DELAY_S + 0.5)
    assert [replica.is_consistent for replica in replicas] == [False, False]
    assert await walls.shown(wall, 1) == (3, 30)
    assert Meters.log.count("tens 1") == 2  # only the owner has computed it


@in_a_cluster
async def test_what_moves_to_another_shard_waits_for_nothing(cluster: LocalCluster) -> None:
    shards = list(cluster.shards.values())
    for shard in shards:
        meters, walls = shard.host.service(Meters), shard.host.service(Walls)
        for number in range(10):
            await meters.tens(number)
            await meters.smooth(number)
            await meters.sign(number)
            await walls.shown(number, number)
            if number % 2:
                meters.tens(number).invalidate()
    slot_map = cluster.slot_map
    swapped = replace(
        slot_map, version=slot_map.version + 1, owners=array("H", (1 - owner for owner in slot_map.owners))
    )
    cluster.slot_map = swapped
    for host in cluster.hosts:
        host.set_slot_map(swapped)
    for shard in shards:
        assert not list(shard.host.graph.nodes())
    Meters.values[1] = 70
    await cluster.host.service(Meters).put(1, 70)
    for shard in shards:
        assert await shard.host.service(Meters).tens(1) == 7


@in_a_cluster
async def test_an_owner_that_is_lost_takes_its_delays_with_it(cluster: LocalCluster) -> None:
    meters = cluster.service(Meters)
    replicas = [meters.smooth(1), meters.tens(1)]
    for replica in replicas:
        await replica
    await meters.put(1, 30)
    owner = cluster.owner("Meters.tens", 1)
    await cluster.kill_shard(owner.address.shard_id)
    await asyncio.sleep(0.1)
    assert [replica.is_consistent for replica in replicas] == [False, False]
    await cluster.start_shard(owner.address.shard_id)
    assert (await meters.tens(1), await meters.smooth(1)) == (3, 30)


async def test_a_replica_of_a_client_follows_what_it_is_told() -> None:
    client = ClientHost(Mock(fence_s=math.inf), Mock(is_made=True, where="here"), timeout_s=1.0, max_nodes=10)
    client.graph.starter()  # in a loop in which time passes
    meters = client.service(Meters)
    for method in (meters.smooth, meters.tens):
        replica = method.function.assign_value((1,), 0)
        replica.invalidate()
        assert not replica.is_consistent
    await client.close()
