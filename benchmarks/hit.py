"""What a hit costs: `await service.get(1)` of a consistent computed, against other ways to get a value that is there.

All cases are measured in turns, in many short rounds, and the best round counts: that is what the code costs when
nothing else has the processor. Where the path in C is there, the one in pure Python is shown beside it, without goals.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator

from benchmarks import hit_cases
from benchmarks.discovery import Say
from benchmarks.fresh_process import Figures, in_a_fresh_process
from benchmarks.path import IS_NATIVE, PATH, on_path
from benchmarks.redis_server import redis_server
from benchmarks.rounds import best_of
from benchmarks.row import Goal, Row, at_most

ROUNDS = 300
CALLS = 2_000
REDIS_ROUNDS = 10
REDIS_CALLS = 500
QUICK_ROUNDS, QUICK_CALLS = 5, 200


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure the hits and their references."""
    rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if quick else (ROUNDS, CALLS)
    say("hits in a process")
    figures = await in_a_fresh_process(hit_cases.measure, rounds=rounds, calls=calls)
    for row in rows(figures, PATH, has_goals=True):
        yield row
    if IS_NATIVE:
        say("hits in a process, in pure Python")
        slow = await in_a_fresh_process(hit_cases.measure, pure_python=True, rounds=rounds, calls=calls)
        for row in rows(slow, "pure Python", has_goals=False):
            yield row
    say("redis-py GET")
    reference, redis_ns = await redis_get()
    yield Row("hit", on_path("hit, one int"), figures[hit_cases.HIT], "ns", reference, redis_ns)


def rows(figures: Figures, path: str, *, has_goals: bool) -> Iterator[Row]:
    """What was measured on one path."""

    def row(case: str, measured: str, reference: str, compared: str, bound: float | None = None) -> Row:
        goal: Goal | None = at_most(bound) if has_goals and bound is not None else None
        return Row("hit", on_path(case, path), figures[measured], "ns", reference, figures[compared], goal)

    for spelling in hit_cases.SPELLINGS:
        case = f"hit, {spelling.name}"
        yield row(case, spelling.hit, "lru_cache hit, function", spelling.function_hit, spelling.bound)
        yield row(case, spelling.hit, "lru_cache hit, method", spelling.method_hit, spelling.bound)
    case = "hit in a computation"
    same, new = hit_cases.INSIDE_SAME, hit_cases.INSIDE_NEW
    yield row(f"{case}, the same key again", same, "lru_cache hit, function", hit_cases.CACHED, 2.5)
    yield row(f"{case}, a new edge each", new, "lru_cache hits, distinct keys", hit_cases.CACHED_NEW, 2.5)
    case = f"gather of {hit_cases.GATHERED}, per hit"
    yield row(case, hit_cases.GATHER, "asyncio.gather of the same", hit_cases.ASYNCIO_GATHER)
    yield row(case, hit_cases.GATHER, "a list of lru_cache hits", hit_cases.CACHED_LIST)
    yield row("hit, one int", hit_cases.HIT, "await of a trivial coroutine", hit_cases.TRIVIAL)
    yield row("hit, one int", hit_cases.HIT, "async_lru hit", hit_cases.CACHED_ASYNC)


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
