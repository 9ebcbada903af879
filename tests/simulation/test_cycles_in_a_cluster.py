"""Random cycles on real shards, while readers give up and data changes: each read ends, with what is true."""

from __future__ import annotations

import asyncio
import random

import pytest

from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.testing import LocalCluster
from tests.apps.labyrinth import Labyrinth, Plan, app, fresh_plan

PLACES = [f"{letter}{number}" for letter in "abcd" for number in range(3)]
FAR_BELOW_THE_TIMEOUT_S = 30.0


def draw_ways(rng: random.Random, *, is_ordered: bool) -> dict[str, list[str]]:
    """Where each place leads to; in an ordered labyrinth only to later ones."""
    return {
        place: rng.sample(PLACES[index + 1 :] if is_ordered else PLACES, rng.randint(0, min(2, 11 - index)))
        for index, place in enumerate(PLACES)
    }


def length_from(plan: Plan, place: str, path: tuple[str, ...] = ()) -> int | None:
    """What a walk gives; None: it comes to a cycle."""
    if place in path:
        return None
    lengths = [length_from(plan, way, (*path, place)) for way in plan.ways.get(place, ())]
    known = [length for length in lengths if length is not None]
    return None if len(known) < len(lengths) else 1 + sum(known)


async def outcome(labyrinth: Labyrinth, place: str) -> int | None:
    try:
        return await labyrinth.walk(place)
    except CircularDependencyError:
        return None


async def walk_all(cluster: LocalCluster, rng: random.Random, plan: Plan) -> None:
    """Readers everywhere, some of whom leave; those who stay are given what is true."""
    members = [cluster.host, *(shard.host for shard in cluster.shards.values())]
    reads = {}
    for number, place in enumerate(rng.choices(PLACES, k=24)):
        service = rng.choice(members).service(Labyrinth)
        reads[number, place] = asyncio.create_task(outcome(service, place))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.choice((0, 0.001, 0.005)))
        if rng.random() < 0.2:
            leaving = rng.choice(list(reads))
            reads.pop(leaving).cancel()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        results = await asyncio.gather(*reads.values())
    for (_, place), result in zip(reads, results, strict=True):
        assert result == length_from(plan, place), place


@pytest.mark.parametrize("seed", range(6))
async def test_walks_end_with_what_is_true(seed: int) -> None:
    rng = random.Random(seed)
    plan = fresh_plan()
    async with LocalCluster(app, shards=rng.randint(2, 4), call_timeout_s=300.0) as cluster:
        labyrinth = cluster.service(Labyrinth)
        for _ in range(4):
            ways = draw_ways(rng, is_ordered=rng.random() < 0.3)
            for place, following in ways.items():
                if plan.ways.get(place, []) != following:
                    await labyrinth.lead(place, following)
            await walk_all(cluster, rng, plan)


@pytest.mark.parametrize("seed", range(4))
async def test_no_walk_hangs_while_the_ways_change(seed: int) -> None:
    """What is true changes while it is found out: a walk may find a cycle that was there for a moment, or none."""
    rng = random.Random(seed)
    plan = fresh_plan()
    async with LocalCluster(app, shards=3, call_timeout_s=300.0) as cluster:
        labyrinth = cluster.service(Labyrinth)
        reads = []
        for _ in range(40):
            place = rng.choice(PLACES)
            reads.append(asyncio.create_task(outcome(labyrinth, rng.choice(PLACES))))
            await labyrinth.lead(place, rng.sample(PLACES, rng.randint(0, 2)))
        async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
            await asyncio.gather(*reads)
        for place in PLACES:
            assert await outcome(labyrinth, place) == length_from(plan, place)


async def test_without_a_cycle_no_walk_finds_one_however_the_ways_change() -> None:
    rng = random.Random(1)
    plan = fresh_plan()
    async with LocalCluster(app, shards=3, call_timeout_s=300.0) as cluster:
        labyrinth = cluster.service(Labyrinth)
        reads = []
        for _ in range(60):
            index = rng.randrange(len(PLACES) - 1)
            later = PLACES[index + 1 :]
            reads.append(asyncio.create_task(outcome(labyrinth, rng.choice(PLACES))))
            await labyrinth.lead(PLACES[index], rng.sample(later, min(len(later), rng.randint(0, 2))))
            if rng.random() < 0.2:
                reads.pop(rng.randrange(len(reads))).cancel()
        async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
            assert None not in await asyncio.gather(*reads)
        for place in PLACES:
            assert await outcome(labyrinth, place) == length_from(plan, place)
