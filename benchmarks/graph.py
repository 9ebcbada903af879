"""What the graph costs where a value is not simply there: invalidation, computations, many callers, evictions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import get_args

from benchmarks import graph_cases
from benchmarks.discovery import Say
from benchmarks.fresh_process import Loop, in_a_fresh_process
from benchmarks.path import on_path
from benchmarks.row import Row, at_most, value_at_most


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        nodes: of the graph that is invalidated.
        invalidations: rounds of that, each of which builds the graph anew.
        budget_s: no further such round is begun after these seconds.
        calls: of each round of computations.
        rounds: of everything else.
        bound: of the graph that evicts.
    """

    nodes: int = 1_000_000
    invalidations: int = 5
    budget_s: float = 25.0
    calls: int = 2_000
    rounds: int = 40
    bound: int = 10_000


QUICK = Sizes(nodes=5_000, invalidations=2, calls=200, rounds=3, bound=200)
CALLERS = 1_000


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure the graph."""
    sizes = QUICK if quick else Sizes()
    async for row in invalidations(say, sizes):
        yield row
    for loop in get_args(Loop):
        async for row in computations(say, sizes, loop):
            yield row
    say("evictions")
    figures = await in_a_fresh_process(graph_cases.evictions, bound=sizes.bound, calls=sizes.calls, rounds=sizes.rounds)
    case = on_path(f"a miss that evicts, {sizes.bound:,} nodes")
    for reference, label in (
        ("below the bound", "a miss that evicts nothing"),
        ("lru_cache", "a miss of a full lru_cache"),
    ):
        yield Row("graph", case, figures["evicting"], "ns", label, figures[reference])


async def invalidations(say: Say, sizes: Sizes) -> AsyncIterator[Row]:
    """Measure `invalidate()` of a root."""
    for shape in graph_cases.SHAPES:
        say(f"a {shape} of {sizes.nodes:,} nodes")
        figures = await in_a_fresh_process(
            graph_cases.invalidation,
            loop="uvloop",
            shape=shape,
            nodes=sizes.nodes,
            rounds=sizes.invalidations,
            budget_s=sizes.budget_s,
        )
        yield Row(
            *("graph", on_path(f"invalidation of a {shape} of {sizes.nodes:,}, per node"), figures["invalidate"], "ns"),
            *("cache_clear() of as many in an lru_cache", figures["cache_clear"], value_at_most(150)),
        )


async def computations(say: Say, sizes: Sizes, loop: Loop) -> AsyncIterator[Row]:
    """Measure computations, and many callers of one."""
    say(f"computations on {loop}")
    figures = await in_a_fresh_process(graph_cases.computations, loop=loop, calls=sizes.calls, rounds=sizes.rounds)
    case, label = on_path(f"recomputation, one dependency, {loop}"), "create_task and await of the body"
    yield Row("graph", case, figures["recomputed"], "ns", label, figures["task, one dependency"], at_most(1.5))
    case = on_path(f"first computation, {loop}")
    yield Row("graph", case, figures["computed first"], "ns", label, figures["task, no dependency"])
    yield Row("graph", case, figures["computed first"], "ns", "a miss of async_lru", figures["async_lru first"])
    figures = await in_a_fresh_process(graph_cases.callers, loop=loop, callers=CALLERS, rounds=sizes.rounds)
    case = on_path(f"{CALLERS:,} callers of one key, per caller, {loop}")
    yield Row("graph", case, figures["one key"], "ns", "as many that share one task", figures["one task"])
