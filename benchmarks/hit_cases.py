"""The hits of the `hit` benchmark and the reads they are compared with: expressions, timed in one and the same loop."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass

from async_lru import alru_cache

from benchmarks.fresh_process import Figures
from benchmarks.rounds import Batch, best_of
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import GraphHosting, compute_method, gather

KEYS = tuple(range(2_000))
GATHERED = 100


@dataclass(frozen=True)
class Spelling:
    """One way to spell a call.

    Attributes:
        name: what is special about it.
        method: the compute method; with `cached` for `get`, its references.
        arguments: as they are written.
        bound: the most that it should cost, in `lru_cache` hits of the same spelling.
    """

    name: str
    method: str
    arguments: str
    bound: float

    @property
    def hit(self) -> str:
        return f"await service.{self.method}({self.arguments})"

    @property
    def function_hit(self) -> str:
        """The same function under `lru_cache`."""
        return f"{self._cached}({self.arguments})"

    @property
    def method_hit(self) -> str:
        """The same method under `lru_cache`."""
        return f"service.{self._cached}({self.arguments})"

    @property
    def _cached(self) -> str:
        return self.method.replace("get", "cached")


SPELLINGS = (
    Spelling("one int", "get", "1", 0.8),
    Spelling("one str", "get_text", "'one'", 0.8),
    Spelling("two arguments", "get_two", "1, 'two'", 1.3),
    Spelling("three arguments", "get_three", "1, 'two', 3", 1.3),
    Spelling("one keyword", "get", "number=1", 1.3),
    Spelling("one positional, one keyword", "get_two", "1, second='two'", 1.3),
)
HIT = SPELLINGS[0].hit
CACHED = SPELLINGS[0].function_hit
INSIDE_SAME, INSIDE_NEW, CACHED_NEW = "inside, the same key", "inside, a new key", "cached, distinct keys"
TRIVIAL, CACHED_ASYNC = "await trivial(1)", "await cached_async(1)"
GATHER = "await gather(*[service.get(key) for key in gathered])"
ASYNCIO_GATHER = "await asyncio.gather(*[service.get(key) for key in gathered])"
CACHED_LIST = "[cached(key) for key in gathered]"


# -- what is read: unbounded caches, the fastest form of `lru_cache` ---------------------------------------------------
@functools.cache
def cached(number: int) -> int:
    return number


@functools.cache
def cached_text(text: str) -> str:
    return text


@functools.cache
def cached_two(first: int, second: str) -> int:
    return first


@functools.cache
def cached_three(first: int, second: str, third: int) -> int:
    return first


@alru_cache(maxsize=None)
async def cached_async(number: int) -> int:
    return number


async def trivial(number: int) -> int:
    return number


class Numbers(ComputeService):
    """Compute methods, and the same methods under `lru_cache`."""

    def __init__(self) -> None:
        self.batches: dict[str, Batch] = {}

    @compute_method
    async def get(self, number: int) -> int:
        return number

    @compute_method
    async def get_text(self, text: str) -> str:
        return text

    @compute_method
    async def get_two(self, first: int, second: str) -> int:
        return first

    @compute_method
    async def get_three(self, first: int, second: str, third: int) -> int:
        return first

    @compute_method
    async def inside(self, name: str, calls: int) -> float:
        """Run a batch inside a computation, where each call is captured as a dependency."""
        return await self.batches[name](calls)

    @functools.cache  # noqa: B019 (there is one instance, and it lives as long as the process)
    def cached(self, number: int) -> int:
        return number

    @functools.cache  # noqa: B019
    def cached_text(self, text: str) -> str:
        return text

    @functools.cache  # noqa: B019
    def cached_two(self, first: int, second: str) -> int:
        return first

    @functools.cache  # noqa: B019
    def cached_three(self, first: int, second: str, third: int) -> int:
        return first


# -- how it is timed -------------------------------------------------------------------------------------------------
async def measure(rounds: int, calls: int) -> Figures:
    """The nanoseconds of each expression (of one read of it, where it gathers), by its text or name."""
    service, hosting = Numbers(), GraphHosting()
    attach(service, hosting)
    names = globals() | {"asyncio": asyncio, "gather": gather, "service": service, "gathered": KEYS[:GATHERED]}
    distinct = f"KEYS[:{calls}]"
    service.batches = {
        INSIDE_SAME: batch(HIT, names),
        INSIDE_NEW: batch("await service.get(key)", names, f"key in {distinct}"),
    }
    hits = {
        text: batch(text, names)
        for spelling in SPELLINGS
        for text in (spelling.hit, spelling.function_hit, spelling.method_hit)
    }
    singles = hits | {
        INSIDE_SAME: functools.partial(inside, service, INSIDE_SAME),
        INSIDE_NEW: functools.partial(inside, service, INSIDE_NEW),
        CACHED_NEW: batch("cached(key)", names, f"key in {distinct}"),
        TRIVIAL: batch(TRIVIAL, names),
        CACHED_ASYNC: batch(CACHED_ASYNC, names),
    }
    gathers = {text: batch(text, names) for text in (GATHER, ASYNCIO_GATHER, CACHED_LIST)}
    figures = await best_of(singles, rounds=rounds, calls=calls)
    gathered = await best_of(gathers, rounds=rounds // 3 + 1, calls=calls // GATHERED + 1)
    await hosting.graph.close()
    return figures | {text: ns / GATHERED for text, ns in gathered.items()}


def batch(expression: str, names: Mapping[str, object], loop: str = "_ in repeat(None, calls)") -> Batch:
    """Return a function that evaluates an expression so many times and gives the seconds, as `timeit` does.

    All are one loop around another expression, so that the loop costs each of them the same.
    """
    source = (
        "async def batch(calls):\n"
        "    begin_s = perf_counter()\n"
        f"    for {loop}:\n"
        f"        {expression}\n"
        "    return perf_counter() - begin_s\n"
    )
    scope = {**names, "perf_counter": time.perf_counter, "repeat": itertools.repeat}
    exec(source, scope)
    timed: Batch = scope["batch"]  # type: ignore[assignment]
    return timed


async def inside(service: Numbers, name: str, calls: int) -> float:
    """Run a batch inside a new computation."""
    computed = service.inside(name, calls)
    seconds = await computed
    computed.invalidate()
    return seconds
