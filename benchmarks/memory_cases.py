"""What the `memory` benchmark measures, each in a process of its own: bytes per node, collector pauses, what is left.

Bytes are those of the process (resident set), which include the keys, the registry and whatever an allocator wastes,
and not the values: all nodes have the same one. What is there before the first node, the imported modules above all, is
frozen (`gc.freeze()`), so that pauses are those which the measured objects cause.
"""

from __future__ import annotations

import functools
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import psutil

from benchmarks.fresh_process import Figures
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method

VALUE = "the value of all"
WARM_UP = 1_000
SOURCES = 100
GROWTH = 3
"""While pauses are measured, the graph grows by one part in so many: enough for a full automatic collection, which
begins when a quarter of what the collector knows is new."""


class Nodes(ComputeService):
    @compute_method
    async def source(self, number: int) -> str:
        return VALUE

    @compute_method
    async def read(self, number: int) -> str:
        """One that depends on two of a few."""
        await self.source(number % SOURCES)
        await self.source(-(number % SOURCES))
        return VALUE

    @compute_method
    async def node(self, number: int) -> str:
        """One that depends on two others, the two before it."""
        if number > 1:
            await self.node(number - 1)
            await self.node(number - 2)
        return VALUE


class Plain:
    """A plain Python object that knows two others."""

    def __init__(self, first: object, second: object) -> None:
        self.first = first
        self.second = second


async def warm(max_nodes: int) -> tuple[Nodes, Graph]:
    """A service in a graph of its own, empty again after some computations."""
    service, graph = Nodes(), Graph(max_nodes=max_nodes)
    attach(service, GraphHosting(graph))
    await compute(service.read, range(min(WARM_UP, max_nodes)))
    graph.invalidate_all()
    return service, graph


def frozen_bytes() -> int:
    """The memory of this process, once the collector has been through and knows that all this is here to stay."""
    used = resident_bytes()
    gc.freeze()
    return used


def resident_bytes() -> int:
    """The memory of this process, once the collector has been through."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


# -- nodes and their references --------------------------------------------------------------------------------------
async def nodes(count: int) -> Figures:
    """Bytes per node with two edges, and the collector's pauses with so many nodes live."""
    service, graph = await warm(2 * count)
    before = frozen_bytes()
    await compute(service.node, range(count))
    figures = {"bytes": (resident_bytes() - before) / count}
    if graph.stats.nodes != count:
        raise AssertionError(f"{graph.stats.nodes} nodes instead of {count}")
    with pauses_ms() as pauses:
        await compute(service.node, range(count, count + count // GROWTH))
    return figures | pauses_of(pauses)


async def plain_objects(count: int) -> Figures:
    """The same of plain Python objects in a dict, each of which knows two others."""
    objects: dict[int, Plain | None] = {-2: None, -1: None}

    def make(numbers: range) -> None:
        for number in numbers:
            objects[number] = Plain(objects[number - 1], objects[number - 2])

    before = frozen_bytes()
    make(range(count))
    figures = {"bytes": (resident_bytes() - before) / count}
    with pauses_ms() as pauses:
        make(range(count, count + count // GROWTH))
    return figures | pauses_of(pauses)


async def cached_results(count: int) -> Figures:
    """Bytes per result of an `lru_cache`, which has no edges."""

    @functools.lru_cache(maxsize=2 * count)
    def cached(number: int) -> str:
        return VALUE

    before = frozen_bytes()
    for number in range(count):
        cached(number)
    return {"bytes": (resident_bytes() - before) / count}


async def traced_nodes(count: int) -> Figures:
    """Bytes per node with two edges, as far as they are allocated where `tracemalloc` sees it."""
    service, _ = await warm(2 * count)
    gc.collect()
    tracemalloc.start()
    await compute(service.node, range(count))
    gc.collect()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes": traced / count}


async def keys_through_a_bounded_graph(keys: int, bound: int) -> Figures:
    """Bytes of a graph that has just become full, and how many more it takes when many other keys have passed."""
    service, graph = await warm(bound)
    empty = frozen_bytes()
    await compute(service.read, range(2 * bound))
    full = resident_bytes()
    await compute(service.read, range(2 * bound, 2 * bound + keys))
    if graph.stats.evictions < keys:
        raise AssertionError(f"only {graph.stats.evictions} of {keys} keys were evicted")
    return {"full": full - empty, "left": resident_bytes() - full}


async def compute(method: Callable[[int], Awaitable[str]], numbers: range) -> None:
    """Call a method with these numbers, one after another."""
    for number in numbers:
        await method(number)


# -- the collector ---------------------------------------------------------------------------------------------------
@contextmanager
def pauses_ms() -> Iterator[list[float]]:
    """The milliseconds of each collection while the block runs."""
    pauses: list[float] = []
    listen = listener(pauses)
    gc.callbacks.append(listen)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(listen)


def listener(pauses: list[float]) -> Callable[[str, dict[str, int]], None]:
    """Return a callback of the collector that appends the milliseconds of each collection."""
    began_s = 0.0

    def listen(phase: str, info: dict[str, int]) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = time.perf_counter()
        else:
            pauses.append((time.perf_counter() - began_s) * 1e3)

    return listen


def pauses_of(automatic: list[float]) -> Figures:
    """The longest automatic pause, and that of a full collection now."""
    with pauses_ms() as asked_for:
        gc.collect()
    return {"automatic": max(automatic, default=0.0), "full": max(asked_for)}
