"""Bodies that catch the error of a cycle: what they give depends on data alone, not on who begins, when, and where.

The bodies read one key after the other: then the waits that are refused are those for the keys of the lowest ranks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.testing import LocalCluster
from tests.apps.labyrinth import Labyrinth, Plan, app, fresh_plan

PLACES = tuple("abcdefgh")
FAR_BELOW_THE_TIMEOUT_S = 30.0

Results = dict[str, int | str]


async def result_of(labyrinth: Labyrinth, place: str) -> int | str:
    """What a stroll gives: a length, or the cycle that it has come to."""
    try:
        return await labyrinth.stroll(place)
    except CircularDependencyError as error:
        return str(error)


async def read_in_turn(labyrinth: Labyrinth, places: Iterable[str]) -> Results:
    return {place: await result_of(labyrinth, place) for place in places}


async def read_at_once(choose: Callable[[], Labyrinth], rng: random.Random) -> list[tuple[str, int | str]]:
    """Read all places twice, in any order, while some of the readers leave."""
    reads: list[tuple[str, asyncio.Task[int | str]]] = []
    for place in rng.sample(PLACES * 2, len(PLACES) * 2):
        reads.append((place, asyncio.create_task(result_of(choose(), place))))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.choice((0, 0.001, 0.004)))
        if rng.random() < 0.2:
            reads.pop(rng.randrange(len(reads)))[1].cancel()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
        return [(place, await task) for place, task in reads]


def draw(rng: random.Random, plan: Plan) -> None:
    plan.ways = {place: rng.sample(PLACES, rng.choice((0, 1, 1, 2, 2, 3))) for place in PLACES}
    plan.cautious = {place for place in PLACES if rng.random() < 0.5}


async def expected_results(order: Iterable[str] = PLACES) -> Results:
    async with app.local() as local:
        return await read_in_turn(local.service(Labyrinth), order)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_in_one_process_the_order_of_the_readers_does_not_matter(seed: int) -> None:
    async def run() -> None:
        rng = random.Random(seed)
        draw(rng, fresh_plan())
        expected = await expected_results()
        assert await expected_results(rng.sample(PLACES, len(PLACES))) == expected
        for place in PLACES:
            assert await expected_results([place]) == {place: expected[place]}
        async with app.local() as local:
            labyrinth = local.service(Labyrinth)
            for place, result in await read_at_once(lambda: labyrinth, rng):
                assert result == expected[place], place
            assert await read_in_turn(labyrinth, PLACES) == expected

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(8))
async def test_a_cluster_gives_what_one_process_gives(seed: int) -> None:
    rng = random.Random(seed)
    plan = fresh_plan()
    draw(rng, plan)
    async with LocalCluster(app, shards=1 + seed % 3, call_timeout_s=300.0) as cluster:
        members = [cluster.host, *(shard.host for shard in cluster.shards.values())]
        for _ in range(4):
            expected = await expected_results()
            for place, result in await read_at_once(lambda: rng.choice(members).service(Labyrinth), rng):
                assert result == expected[place], place
            for member in members:
                assert await read_in_turn(member.service(Labyrinth), PLACES) == expected
            for place in rng.sample(PLACES, 2):
                ways = rng.sample(PLACES, rng.randint(0, 2))
                await cluster.service(Labyrinth).lead(place, ways)
