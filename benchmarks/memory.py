"""What a million nodes cost: bytes, the pauses of Python's garbage collector, and what evicted keys leave behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from benchmarks import memory_cases
from benchmarks.discovery import Say
from benchmarks.fresh_process import in_a_fresh_process
from benchmarks.path import on_path
from benchmarks.row import Row, value_at_most


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        nodes: nodes that live at once.
        traced: nodes under `tracemalloc`, which is slow.
        keys: distinct keys that pass through a bounded graph.
        bound: of that graph.
    """

    nodes: int = 1_000_000
    traced: int = 100_000
    keys: int = 1_000_000
    bound: int = 10_000


QUICK = Sizes(nodes=20_000, traced=5_000, keys=10_000, bound=1_000)


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure memory."""
    sizes = QUICK if quick else Sizes()
    say(f"{sizes.nodes:,} nodes with two edges")
    nodes = await in_a_fresh_process(memory_cases.nodes, loop="uvloop", count=sizes.nodes)
    say("the same without a graph")
    plain = await in_a_fresh_process(memory_cases.plain_objects, count=sizes.nodes)
    cached = await in_a_fresh_process(memory_cases.cached_results, count=sizes.nodes)
    case, goal = on_path(f"a node with two edges, of {sizes.nodes:,}"), value_at_most(350)
    yield Row("memory", case, nodes["bytes"], "B", "a result in an lru_cache, no edges", cached["bytes"], goal)
    yield Row("memory", case, nodes["bytes"], "B", "a Python object that knows two others", plain["bytes"])
    say("tracemalloc")
    traced = await in_a_fresh_process(memory_cases.traced_nodes, loop="uvloop", count=sizes.traced)
    case = on_path(f"a node with two edges, of {sizes.traced:,}, by tracemalloc")
    yield Row("memory", case, traced["bytes"], "B", "by the process's memory", nodes["bytes"])

    live, goal = f"with {sizes.nodes:,} nodes live", value_at_most(20)
    for case, key in (("longest automatic collection", "automatic"), ("gc.collect()", "full")):
        as_objects = "the same with as many Python objects in a dict"
        yield Row("memory", on_path(f"{case} {live}"), nodes[key], "ms", as_objects, plain[key], goal)

    say(f"{sizes.keys:,} keys through a bounded graph")
    passed = await in_a_fresh_process(
        memory_cases.keys_through_a_bounded_graph, loop="uvloop", keys=sizes.keys, bound=sizes.bound
    )
    case = on_path(f"left after {sizes.keys:,} more keys through {sizes.bound:,} nodes")
    left, full = passed["left"] / 2**20, passed["full"] / 2**20
    yield Row("memory", case, left, "MiB", "that graph when it has just become full", full)
