"""What a hit costs: `await service.get(1)` of a consistent computed, against other ways to get a value that is there.

All cases are measured in turns, in many short rounds, and the best round counts: that is what the code costs when
nothing else has the processor.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from async_lru import alru_cache

from benchmarks.discovery import Say
from benchmarks.redis_server import redis_server
from benchmarks.row import Row, at_most
from fusion_cluster.graph import ComputeService, GraphHosting, attach, compute_method

ROUNDS = 300
CALLS = 2_000
REDIS_ROUNDS = 10
REDIS_CALLS = 500

Batch = Callable[[int], Awaitable[float]]


class Numbers(ComputeService):
    @compute_method
    async def get(self, number: int) -> int:
        return number

    @compute_method
    async def get_two(self, first: int, second: str) -> int:
        return first

    @compute_method
    async def measure(self, calls: int) -> float:
        """Seconds for `calls` hits inside a computation, where each is captured as a dependency."""
        get = self.get
        begin_s = time.perf_counter()
        for _ in itertools.repeat(None, calls):
            await get(1)
        return time.perf_counter() - begin_s


@functools.cache
def cached(number: int) -> int:
    return number


async def trivial(number: int) -> int:
    return number


@alru_cache(maxsize=None)
async def cached_async(number: int) -> int:
    return number


async def run(say: Say) -> AsyncIterator[Row]:
    """Measure the hits and their references."""
    service, hosting = Numbers(), GraphHosting()
    attach(service, hosting)
    say("hits in this process")
    best = await best_of(
        {
            "hit": functools.partial(hits, service),
            "hit, two arguments": functools.partial(hits_with_two_arguments, service),
            "hit, in a computation": functools.partial(hits_in_a_computation, service),
            "lru_cache": lru_cache_hits,
            "coroutine": trivial_coroutines,
            "async_lru": async_lru_hits,
        },
        rounds=ROUNDS,
        calls=CALLS,
    )
    await hosting.graph.close()
    hit = best["hit"]
    yield Row("hit", "await of a consistent computed", hit, "ns", "functools.lru_cache", best["lru_cache"], at_most(8))
    yield Row("hit", "await of a consistent computed", hit, "ns", "await of a trivial coroutine", best["coroutine"])
    yield Row("hit", "await of a consistent computed", hit, "ns", "async_lru", best["async_lru"])
    for case in ("hit, two arguments", "hit, in a computation"):
        yield Row("hit", case, best[case], "ns", "functools.lru_cache", best["lru_cache"])
    say("redis-py GET")
    reference, redis_ns = await redis_get()
    yield Row("hit", "await of a consistent computed", hit, "ns", reference, redis_ns)


async def best_of(batches: dict[str, Batch], *, rounds: int, calls: int) -> dict[str, float]:
    """Run the batches in turns; return the nanoseconds per call of the best round of each."""
    best_s = dict.fromkeys(batches, float("inf"))
    for _ in range(rounds):
        for name, batch in batches.items():
            best_s[name] = min(best_s[name], await batch(calls))
    return {name: seconds / calls * 1e9 for name, seconds in best_s.items()}


# -- the batches: seconds for so many calls -------------------------------------------------------------------------
async def hits(service: Numbers, calls: int) -> float:
    begin_s = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        await service.get(1)
    return time.perf_counter() - begin_s


async def hits_with_two_arguments(service: Numbers, calls: int) -> float:
    begin_s = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        await service.get_two(1, "two")
    return time.perf_counter() - begin_s


async def hits_in_a_computation(service: Numbers, calls: int) -> float:
    computed = service.measure(calls)
    seconds = await computed
    computed.invalidate()
    return seconds


async def lru_cache_hits(calls: int) -> float:
    begin_s = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        cached(1)
    return time.perf_counter() - begin_s


async def trivial_coroutines(calls: int) -> float:
    begin_s = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        await trivial(1)
    return time.perf_counter() - begin_s


async def async_lru_hits(calls: int) -> float:
    begin_s = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        await cached_async(1)
    return time.perf_counter() - begin_s


async def redis_get() -> tuple[str, float | None]:
    """Return what was measured, and the nanoseconds of a GET, one after another; None where there is no server."""
    async with redis_server() as address:
        if address is None:
            return "redis-py GET: not measured, no redis-server is installed", None
        from redis.asyncio import Redis

        async with Redis(host=address[0], port=address[1]) as client:
            await client.set("1", "1")

            async def gets(calls: int) -> float:
                begin_s = time.perf_counter()
                for _ in itertools.repeat(None, calls):
                    await client.get("1")
                return time.perf_counter() - begin_s

            best = await best_of({"get": gets}, rounds=REDIS_ROUNDS, calls=REDIS_CALLS)
            return "redis-py GET, one after another", best["get"]
