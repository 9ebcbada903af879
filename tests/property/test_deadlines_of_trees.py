"""Random trees of calls over three shards, with random deadlines: each ends in time, and nothing runs for nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_cluster.errors import ClusterError
from fusion_cluster.runtime.deadline import deadline_at
from fusion_cluster.testing import run_in_virtual_time
from tests.apps.relays import Relays, relays

TICK_S = 0.6
"""How much later than its deadline a call may end, and what it has begun; the margin of a call that could be done."""

NUMBERS = 8


@dataclass(frozen=True)
class Root:
    """One call from outside.

    Attributes:
        number: what it reads.
        driver: which process makes it.
        starts_s: when.
        timeout_s: how long it may take.
        is_command: it is a command that reads it.
    """

    number: int
    driver: int
    starts_s: float
    timeout_s: float
    is_command: bool


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[int, list[int]], dict[int, float]]:
    uses = {number: sorted(draw(st.sets(st.integers(number + 1, NUMBERS), max_size=3))) for number in range(1, NUMBERS)}
    works_s = {number: draw(st.sampled_from([0.0, 0.1, 0.7, 1.5, 3.0])) for number in range(1, NUMBERS + 1)}
    return uses, works_s


roots = st.builds(
    Root,
    st.integers(1, NUMBERS),
    st.integers(0, 1),
    st.sampled_from([0.0, 0.05, 0.5, 1.0, 2.5, 3.0]),
    st.sampled_from([0.05, 0.3, 1.0, 2.0, 4.0, 8.0]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(tree=trees(), calls=st.lists(roots, min_size=1, max_size=6), hears=st.booleans())
def test_every_call_ends_by_its_deadline_and_no_work_goes_on_that_nobody_waits_for(
    tree: tuple[dict[int, list[int]], dict[int, float]], calls: list[Root], hears: bool
) -> None:
    run_in_virtual_time(_check(*tree, calls, hears=hears))


async def _check(uses: dict[int, list[int]], works_s: dict[int, float], calls: list[Root], *, hears: bool) -> None:
    """Make the calls; with `hears` the shards are told when a caller leaves, else they have to know by the time."""
    loop = asyncio.get_running_loop()
    async with relays(call_timeout_s=10.0) as (cluster, plan):
        plan.uses.update(uses)
        plan.works_s.update(works_s)
        if not hears:
            for shard in cluster.shards.values():
                shard.serving.on_cancelled = lambda *_: None  # type: ignore[method-assign]
        drivers = [cluster.host, cluster.new_host("another driver")]

        # The calls that go on, or have ended only just now.
        awaited: Counter[int] = Counter()

        async def run(root: Root) -> None:
            await asyncio.sleep(root.starts_s)
            awaited[root.number] += 1
            service = drivers[root.driver].service(Relays)
            until_s = loop.time() + root.timeout_s
            could_be_done = plan.duration_s(root.number) + TICK_S < root.timeout_s
            try:
                with deadline_at(until_s):
                    if root.is_command:
                        await service.read_and_run(root.number)
                    else:
                        async with asyncio.timeout_at(until_s):
                            await service.get(root.number)
            except (ClusterError, TimeoutError):
                # A command waits for its turn: others of its key may be before it.
                assert root.is_command or not could_be_done, f"{root} could have been answered"
                assert loop.time() >= until_s - TICK_S, f"{root} was given up {until_s - loop.time():.2f} s early"
            assert loop.time() <= until_s + TICK_S, f"{root} ended {loop.time() - until_s:.2f} s late"

            await asyncio.sleep(TICK_S)
            awaited[root.number] -= 1
            unwanted = {abs(number) for number in +plan.running} - plan.used_by(+awaited)
            assert not unwanted, f"{unwanted} go on after {root}, and nobody waits for them"

        await asyncio.gather(*map(run, calls))
        assert not +plan.running
