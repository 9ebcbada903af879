"""D.7: a cycle across shards raises with the whole path, in milliseconds; no computation waits for itself for ever."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.link import Carrier
from fusion_cluster.link.tcp import TcpListener, dial_tcp, listen_tcp
from fusion_cluster.protocol.edge_chasing import MAX_GENERATIONS
from fusion_cluster.protocol.slot_map import ShardAddress
from fusion_cluster.testing import LocalCluster
from fusion_router.cycles import CycleWatch
from tests.apps.labyrinth import Labyrinth, Plan, app, fresh_plan, places_on
from tests.waiting import until

FAR_BELOW_THE_TIMEOUT_S = 30.0


@pytest.fixture
def plan() -> Plan:
    return fresh_plan()


@pytest.fixture
async def cluster(plan: Plan) -> AsyncIterator[LocalCluster]:
    async with LocalCluster(app, shards=3, call_timeout_s=300.0) as cluster:
        yield cluster


async def outcome(awaitable: object) -> object:
    try:
        return await awaitable  # type: ignore[misc]
    except Exception as error:
        return error


def lead(plan: Plan, *places: str) -> None:
    for place, following in zip(places, (*places[1:], places[0]), strict=True):
        plan.ways[place] = [*plan.ways.get(place, ()), following]


def assert_names(error: object, places: Sequence[str]) -> None:
    """Whether the error names the whole cycle, wherever it begins."""
    assert isinstance(error, CircularDependencyError), error
    names = [f"Labyrinth.walk({place!r})" for place in places]
    turns = [[*names[i:], *names[:i]] for i in range(len(names))]
    assert any(" → ".join([*turn, turn[0]]) in str(error) for turn in turns), str(error)


def watch_of(cluster: LocalCluster, shard_id: int) -> CycleWatch:
    watch = cluster.shards[shard_id].host.cycles
    assert watch is not None
    return watch


async def all_asked(cluster: LocalCluster) -> None:
    """Wait until all who wait have been probed."""
    await until(lambda: all(watch_of(cluster, shard).is_quiet for shard in cluster.shards))


@pytest.mark.parametrize("shards", [2, 3])
async def test_a_read_that_comes_back_to_its_key(cluster: LocalCluster, plan: Plan, shards: int) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(shards)]
    lead(plan, *places)
    labyrinth = cluster.service(Labyrinth)
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        error = await outcome(labyrinth.walk(places[0]))
    assert_names(error, places)
    assert sorted(plan.log) == sorted(places), "each was computed once"


async def test_it_takes_milliseconds(cluster: LocalCluster, plan: Plan) -> None:
    labyrinth = cluster.service(Labyrinth)
    times_s = []
    for number in range(10):
        places = [places_on(cluster, shard, 10)[number] for shard in range(3)]
        lead(plan, *places)
        began_s = time.perf_counter()
        assert_names(await outcome(labyrinth.walk(places[0])), places)
        times_s.append(time.perf_counter() - began_s)
    assert min(times_s) < 0.1, times_s


class TcpCluster(LocalCluster):
    """A local cluster whose links are sockets."""

    listeners: dict[ShardAddress, TcpListener]

    async def _dial(self, address: ShardAddress) -> Carrier:
        if address not in self.listeners:
            self.listeners[address] = await listen_tcp(self.shards[address.shard_id].acceptor)
        return await dial_tcp(*self.listeners[address].address)


async def test_it_takes_milliseconds_over_sockets(plan: Plan) -> None:
    cluster = TcpCluster(app, shards=3, call_timeout_s=300.0)
    cluster.listeners = {}
    async with cluster:
        labyrinth = cluster.service(Labyrinth)
        times_s = []
        for number in range(10):
            places = [places_on(cluster, shard, 10)[number] for shard in range(3)]
            lead(plan, *places)
            began_s = time.perf_counter()
            assert_names(await outcome(labyrinth.walk(places[0])), places)
            times_s.append(time.perf_counter() - began_s)
        for listener in cluster.listeners.values():
            await listener.close()
    assert min(times_s) < 0.1, times_s


async def test_several_computations_of_one_shard_between_two_waits(cluster: LocalCluster, plan: Plan) -> None:
    first, second, third = places_on(cluster, 0, 3)
    far, farther = places_on(cluster, 1, 2)
    lead(plan, first, second, third, far, farther)
    error = await outcome(cluster.service(Labyrinth).walk(second))
    assert_names(error, [first, second, third, far, farther])


async def test_computations_that_begin_at_once_and_wait_for_each_other(cluster: LocalCluster, plan: Plan) -> None:
    """No call's path shows it: each shard's computation has begun for a reader of its own."""
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    plan.gates = {place: asyncio.Event() for place in places}
    labyrinth = cluster.service(Labyrinth)
    reads = [asyncio.create_task(outcome(labyrinth.walk(place))) for place in places]
    await until(lambda: len(plan.log) == 3)
    for gate in plan.gates.values():
        gate.set()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        errors = await asyncio.gather(*reads)
    for error in errors:
        assert_names(error, places)
    assert len({str(error) for error in errors}) == 1, "one of the waits was broken, and no other"


async def test_exactly_one_wait_is_broken(cluster: LocalCluster, plan: Plan) -> None:
    """A place that takes the cycle for a dead end gets a result; so do those who lead to it."""
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    plan.cautious = set(places)
    plan.gates = {place: asyncio.Event() for place in places}
    labyrinth = cluster.service(Labyrinth)
    reads = [asyncio.create_task(outcome(labyrinth.walk(place))) for place in places]
    await until(lambda: len(plan.log) == 3)
    for gate in plan.gates.values():
        gate.set()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        lengths = await asyncio.gather(*reads)
    assert sorted(map(str, lengths)) == ["0", "1", "2"], lengths


async def test_a_cycle_that_a_join_in_the_middle_closes(cluster: LocalCluster, plan: Plan) -> None:
    """The last wait that is added is one within a shard, for a replica that waits already."""
    near, other = places_on(cluster, 0, 2)
    far = places_on(cluster, 1)[0]
    plan.ways = {far: [near], other: [far], near: [far]}
    plan.gates = {near: asyncio.Event()}
    labyrinth = cluster.service(Labyrinth)
    reads = [asyncio.create_task(outcome(labyrinth.walk(place))) for place in (other, far)]
    await until(lambda: sorted(plan.log) == sorted([near, other, far]))
    await all_asked(cluster)
    plan.gates[near].set()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        errors = await asyncio.gather(*reads)
    for error in errors:
        assert_names(error, [near, far])


async def test_after_the_data_has_changed_there_is_no_cycle_any_more(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    labyrinth = cluster.service(Labyrinth)
    readers = [labyrinth, *(shard.host.service(Labyrinth) for shard in cluster.shards.values())]
    for ended in places:
        for reader in readers:
            for place in places:
                assert_names(await outcome(reader.walk(place)), places)
        following = plan.ways[ended]
        await labyrinth.lead(ended, [])
        for reader in readers:
            assert await reader.walk(ended) == 1
            assert sorted([await reader.walk(place) for place in places]) == [1, 2, 3]
        await labyrinth.lead(ended, list(following))


async def test_a_cycle_that_is_read_again_is_a_result(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    labyrinth = cluster.service(Labyrinth)
    for _ in range(3):
        for place in places:
            assert_names(await outcome(labyrinth.walk(place)), places)
    assert len(plan.log) == 3, "an error is kept, as others are"


@pytest.mark.parametrize("method", ["walk_isolated", "walk_in_a_thread", "walk_calmly"])
async def test_other_ways_to_wait(cluster: LocalCluster, plan: Plan, method: str) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        error = await outcome(getattr(cluster.service(Labyrinth), method)(places[0]))
    assert isinstance(error, CircularDependencyError)
    for place in places:
        assert f"Labyrinth.{method}({place!r})" in str(error)


async def test_a_command_that_reads_a_cycle_fails_with_it(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        assert_names(await outcome(cluster.service(Labyrinth).measure(places[1], places[0])), places)


async def test_a_link_that_is_lost_while_they_wait(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    plan.gates = {places[2]: asyncio.Event()}
    labyrinth = cluster.service(Labyrinth)
    read = asyncio.create_task(outcome(labyrinth.walk(places[0])))
    await until(lambda: len(plan.log) == 3)
    cluster.hold_links(0)
    plan.gates[places[2]].set()
    await until(lambda: watch_of(cluster, 2).waiting_count)
    await all_asked(cluster)
    for shard in range(3):
        cluster.cut_links(shard)
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        assert_names(await read, places)


async def test_who_waits_for_long_is_part_of_no_cycle_for_that(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    plan.ways = {places[0]: [places[1]], places[1]: [places[2]]}
    plan.gates = {places[2]: asyncio.Event()}
    labyrinth = cluster.service(Labyrinth)
    read = asyncio.create_task(outcome(labyrinth.walk(places[0])))
    await until(lambda: len(plan.log) == 3)
    await all_asked(cluster)
    plan.gates[places[2]].set()
    assert await read == 3


async def test_keys_that_differ_only_at_their_far_ends_are_not_one_key(cluster: LocalCluster, plan: Plan) -> None:
    """More of them wait for each other than computations of one key may."""
    places = [f"{'a long way ' * 30}{number}" for number in range(5 * MAX_GENERATIONS)]
    for place, following in itertools.pairwise(places):
        plan.ways[place] = [following]
    plan.gates[places[-1]] = asyncio.Event()
    walking = asyncio.create_task(outcome(cluster.service(Labyrinth).walk(places[0])))
    await until(lambda: places[-1] in plan.log)
    await all_asked(cluster)
    plan.gates[places[-1]].set()
    assert await walking == len(places)


async def test_a_phantom_breaks_nothing(cluster: LocalCluster, plan: Plan) -> None:
    """A wait that its computation has given up is part of no cycle, though others wait for that computation."""
    first, second = (places_on(cluster, shard)[0] for shard in range(2))
    plan.ways = {first: [second], second: [first]}
    plan.gates = {first: asyncio.Event(), second: asyncio.Event()}
    labyrinth = cluster.service(Labyrinth)
    impatient = asyncio.create_task(outcome(labyrinth.hurry(first)))
    await until(lambda: plan.log == [first, second])
    await until(lambda: plan.given_up)
    plan.gates[second].set()  # it waits for the first place now, which does not wait for it any more
    await until(lambda: plan.log.count(first) > 1 or not watch_of(cluster, 1).waiting_count)
    await all_asked(cluster)
    plan.gates[first].set()
    assert await impatient == 1001


async def test_two_cycles_with_a_place_in_common_are_both_broken(cluster: LocalCluster, plan: Plan) -> None:
    first, second, third = (places_on(cluster, shard)[0] for shard in range(3))
    lead(plan, first, second)
    lead(plan, second, third)
    plan.cautious = {second}
    labyrinth = cluster.service(Labyrinth)
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        results = await asyncio.gather(*(outcome(labyrinth.walk(place)) for place in (first, second, third)))
    assert any(result == 0 or isinstance(result, CircularDependencyError) for result in results)


async def test_a_crowd_that_waits_for_one_cycle(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    lead(plan, *places)
    crowd = [name for shard in range(3) for name in places_on(cluster, shard, 40)[1:]]
    for name in crowd:
        plan.ways[name] = places
    labyrinth = cluster.service(Labyrinth)
    async with asyncio.timeout(2 * FAR_BELOW_THE_TIMEOUT_S):
        errors = await asyncio.gather(*(outcome(labyrinth.walk(name)) for name in crowd))
    for error in errors:
        assert_names(error, places)
