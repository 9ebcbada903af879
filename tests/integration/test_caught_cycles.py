"""D.7: a body that catches the error of a cycle across shards has a result, and everybody is given that one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.testing import LocalCluster
from tests.apps.labyrinth import Labyrinth, Plan, app, fresh_plan, places_on
from tests.waiting import until

FAR_BELOW_THE_TIMEOUT_S = 30.0
REFUSED = 1000


@pytest.fixture
def plan() -> Plan:
    return fresh_plan()


@pytest.fixture
async def cluster(plan: Plan) -> AsyncIterator[LocalCluster]:
    async with LocalCluster(app, shards=3, call_timeout_s=300.0) as cluster:
        yield cluster


def everywhere(cluster: LocalCluster) -> list[Labyrinth]:
    return [cluster.service(Labyrinth), *(shard.host.service(Labyrinth) for shard in cluster.shards.values())]


async def result_of(labyrinth: Labyrinth, place: str) -> int | str:
    try:
        return await labyrinth.stroll(place)
    except CircularDependencyError as error:
        return str(error)


async def in_one_process(places: list[str]) -> list[int | str]:
    async with app.local() as local:
        return [await result_of(local.service(Labyrinth), place) for place in places]


def ring(plan: Plan, *places: str) -> None:
    for place, following in zip(places, (*places[1:], places[0]), strict=True):
        plan.ways[place] = [*plan.ways.get(place, ()), following]


@pytest.mark.parametrize("cautious", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("first", [0, 1, 2])
async def test_all_members_have_the_result_of_the_owner(
    cluster: LocalCluster, plan: Plan, cautious: tuple[int, ...], first: int
) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    ring(plan, *places)
    plan.cautious = {places[index] for index in cautious}
    expected = await in_one_process(places)
    plan.log.clear()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        await result_of(cluster.service(Labyrinth), places[first])
        for labyrinth in everywhere(cluster):
            assert [await result_of(labyrinth, place) for place in places] == expected
    assert sorted(plan.log) == sorted(places), "each was computed once"


async def test_a_ring_that_nobody_catches_is_an_error_of_each_with_the_whole_path(
    cluster: LocalCluster, plan: Plan
) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    ring(plan, *places)
    expected = await in_one_process(places)
    for labyrinth in everywhere(cluster):
        assert [await result_of(labyrinth, place) for place in places] == expected
    assert len(set(expected)) == 1, "one wait was refused"
    assert all(f"Labyrinth.stroll({place!r})" in str(expected[0]) for place in places)


async def test_overlapping_cycles(cluster: LocalCluster, plan: Plan) -> None:
    middle, left, right = (places_on(cluster, shard)[0] for shard in range(3))
    ring(plan, middle, left)
    ring(plan, middle, right)
    ring(plan, left, right)
    for cautious in ([middle], [left, right], [middle, left, right]):
        plan.cautious = set(cautious)
        expected = await in_one_process([middle, left, right])
        async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
            for labyrinth in everywhere(cluster):
                assert [await result_of(labyrinth, place) for place in (middle, left, right)] == expected
        for place in (middle, left, right):
            await cluster.service(Labyrinth).lead(place, list(plan.ways[place]))


async def test_cycles_that_are_closed_at_once(cluster: LocalCluster, plan: Plan) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    ring(plan, *places)
    plan.cautious = set(places)
    expected = await in_one_process(places)
    plan.log.clear()
    plan.gates = {place: asyncio.Event() for place in places}
    reads = [asyncio.create_task(result_of(cluster.service(Labyrinth), place)) for place in places]
    await until(lambda: len(plan.log) == 3)
    for gate in plan.gates.values():
        gate.set()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        assert await asyncio.gather(*reads) == expected
    assert sum(expected) == 3 * REFUSED + 1 + 2 + 3  # type: ignore[arg-type]


@pytest.mark.parametrize("is_waiting", [True, False])
async def test_one_who_looks_on_is_given_results_not_errors(
    cluster: LocalCluster, plan: Plan, *, is_waiting: bool
) -> None:
    """They read each key of the ring on each shard: while its computations wait for each other, or afterwards."""
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    ring(plan, *places)
    plan.cautious = set(places)
    expected = await in_one_process(places)
    plan.log.clear()
    plan.gates = {places[2]: asyncio.Event()}
    labyrinth = cluster.service(Labyrinth)
    first = asyncio.create_task(result_of(labyrinth, places[0]))
    await until(lambda: len(plan.log) == 3)
    onlookers = []
    if is_waiting:
        onlookers = [
            asyncio.create_task(reader.look_on(place).update()) for reader in everywhere(cluster) for place in places
        ]
        await asyncio.sleep(0)
    plan.gates[places[2]].set()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        await first
        seen = [computed.value for computed in await asyncio.gather(*onlookers)]
        assert seen == expected * (len(seen) // 3)
        for reader in everywhere(cluster):
            assert [await reader.look_on(place) for place in places] == expected


@pytest.mark.parametrize("cautious", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("changed", [0, 1, 2])
async def test_when_the_data_has_changed_there_is_no_trace_of_the_cycle(
    cluster: LocalCluster, plan: Plan, cautious: tuple[int, ...], changed: int
) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    ring(plan, *places)
    plan.cautious = {places[index] for index in cautious}
    labyrinth = cluster.service(Labyrinth)
    for _ in range(2):
        around = await in_one_process(places)
        for reader in everywhere(cluster):
            assert [await result_of(reader, place) for place in places] == around
        following = list(plan.ways[places[changed]])
        await labyrinth.lead(places[changed], [])
        open_lengths = await in_one_process(places)
        assert sorted(open_lengths) == [1, 2, 3]
        for reader in everywhere(cluster):
            assert [await result_of(reader, place) for place in places] == open_lengths
        await labyrinth.lead(places[changed], following)


async def test_a_reader_that_leaves_after_a_wait_was_refused_takes_nothing_along(
    cluster: LocalCluster, plan: Plan
) -> None:
    places = [places_on(cluster, shard)[0] for shard in range(3)]
    ring(plan, *places)
    plan.cautious = set(places)
    expected = await in_one_process(places)
    for number, place in enumerate(places * 10):
        read = asyncio.create_task(result_of(cluster.service(Labyrinth), place))
        for _turn in range(number * 5):
            await asyncio.sleep(0)
        read.cancel()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        for reader in everywhere(cluster):
            assert [await result_of(reader, place) for place in places] == expected
