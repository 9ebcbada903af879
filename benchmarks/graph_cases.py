"""What the `graph` benchmark measures, each in a process of its own: invalidation, computations, callers, evictions."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine

from async_lru import alru_cache

from benchmarks.fresh_process import Figures
from benchmarks.rounds import Batch, best_of
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method


class Numbers(ComputeService):
    """Compute methods with bodies as small as they can be, and the same bodies without memo."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    @compute_method
    async def number(self, number: int) -> int:
        return number

    @compute_method
    async def source(self) -> int:
        return 1

    @compute_method
    async def leaf(self, number: int) -> int:
        return await self.source()

    @compute_method
    async def level(self, number: int) -> int:
        return await self.level(number - 1) if number else 0

    @compute_method
    async def gated(self, number: int) -> int:
        await self.gate.wait()
        return number

    async def number_without_memo(self, number: int) -> int:
        return number

    async def leaf_without_memo(self, number: int) -> int:
        return await self.source()

    async def gated_without_memo(self, number: int) -> int:
        await self.gate.wait()
        return number


@alru_cache(maxsize=None)
async def cached_async(number: int) -> int:
    return number


def hosted(*, max_nodes: int = 2_000_000) -> tuple[Numbers, Graph]:
    """A service in a graph of its own."""
    service, graph = Numbers(), Graph(max_nodes=max_nodes)
    attach(service, GraphHosting(graph))
    return service, graph


# -- invalidation ----------------------------------------------------------------------------------------------------
async def chain(service: Numbers, nodes: int) -> Computed[int]:
    """Each node depends on the one before; return the first."""
    for number in range(nodes):
        await service.level(number)
    return service.level(0)


async def fan_out(service: Numbers, nodes: int) -> Computed[int]:
    """All nodes depend on one; return that one."""
    for number in range(nodes - 1):
        await service.leaf(number)
    return service.source()


SHAPES: dict[str, Callable[[Numbers, int], Awaitable[Computed[int]]]] = {"chain": chain, "fan-out": fan_out}


async def invalidation(shape: str, nodes: int, rounds: int, budget_s: float) -> Figures:
    """The nanoseconds per node that `invalidate()` of the root takes, and `cache_clear()` of as many results.

    Args:
        shape: one of `SHAPES`.
        nodes: how many.
        rounds: the best of so many counts.
        budget_s: begin no other round after so many seconds.
    """
    best_s = float("inf")
    began_s = time.perf_counter()
    for _ in range(rounds):
        service, graph = hosted(max_nodes=nodes)
        root = await SHAPES[shape](service, nodes)
        if graph.stats.nodes != nodes:
            raise AssertionError(f"a {shape} of {graph.stats.nodes} nodes instead of {nodes}")
        begin_s = time.perf_counter()
        root.invalidate()
        best_s = min(best_s, time.perf_counter() - begin_s)
        if graph.stats.nodes or root.is_consistent:
            raise AssertionError(f"{graph.stats.nodes} nodes of a {shape} are still consistent")
        if time.perf_counter() - began_s > budget_s:
            break

    @functools.cache
    def cached(number: int) -> int:
        return number

    best_clear_s = float("inf")
    for _ in range(rounds):
        for number in range(nodes):
            cached(number)
        begin_s = time.perf_counter()
        cached.cache_clear()
        best_clear_s = min(best_clear_s, time.perf_counter() - begin_s)
    return {"invalidate": best_s / nodes * 1e9, "cache_clear": best_clear_s / nodes * 1e9}


# -- computations ----------------------------------------------------------------------------------------------------
async def computations(calls: int, rounds: int) -> Figures:
    """The nanoseconds of a computation, against tasks of the same body and `async_lru`."""
    service, graph = hosted()
    numbers = itertools.count()

    async def recomputed(calls: int) -> float:
        service.source().invalidate()
        await service.source()
        return await timed(service.leaf, range(calls))

    async def computed_first(calls: int) -> float:
        graph.invalidate_all()
        return await timed(service.number, list(itertools.islice(numbers, calls)))

    async def cached_first(calls: int) -> float:
        cached_async.cache_clear()
        return await timed(cached_async, range(calls))

    def in_tasks(body: Callable[[int], Coroutine[object, object, int]]) -> Batch:
        async def batch(calls: int) -> float:
            await service.source()
            create_task = asyncio.create_task
            begin_s = time.perf_counter()
            for number in range(calls):
                await create_task(body(number))
            return time.perf_counter() - begin_s

        return batch

    before = graph.stats.computations
    best = await best_of(
        {
            "computed first": computed_first,
            "recomputed": recomputed,
            "task, no dependency": in_tasks(service.number_without_memo),
            "task, one dependency": in_tasks(service.leaf_without_memo),
            "async_lru first": cached_first,
        },
        rounds=rounds,
        calls=calls,
    )
    if graph.stats.computations - before < 2 * rounds * calls:
        raise AssertionError("not everything was computed anew")
    return best


async def timed(method: Callable[[int], Awaitable[int]], numbers: range | list[int]) -> float:
    """The seconds of calling a method with each of the numbers, one after another."""
    begin_s = time.perf_counter()
    for number in numbers:
        await method(number)
    return time.perf_counter() - begin_s


# -- callers ---------------------------------------------------------------------------------------------------------
async def callers(callers: int, rounds: int) -> Figures:
    """The nanoseconds per caller when many call one key at once, and when as many share one task."""
    service, graph = hosted()
    keys = itertools.count()

    async def read(key: int) -> int:
        return await service.gated(key)

    async def share(task: asyncio.Task[int]) -> int:
        return await asyncio.shield(task)

    async def all_done(tasks: list[asyncio.Task[int]]) -> None:
        await asyncio.sleep(0)
        service.gate.set()
        await asyncio.gather(*tasks)
        service.gate.clear()

    async def call_one_key(callers: int) -> float:
        key = next(keys)
        begin_s = time.perf_counter()
        await all_done([asyncio.create_task(read(key)) for _ in range(callers)])
        return time.perf_counter() - begin_s

    async def share_one_task(callers: int) -> float:
        begin_s = time.perf_counter()
        task = asyncio.create_task(service.gated_without_memo(0))
        await all_done([asyncio.create_task(share(task)) for _ in range(callers)])
        return time.perf_counter() - begin_s

    best = await best_of({"one key": call_one_key, "one task": share_one_task}, rounds=rounds, calls=callers)
    if graph.stats.computations != rounds:
        raise AssertionError(f"{graph.stats.computations} computations for {rounds} keys")
    return best


# -- evictions -------------------------------------------------------------------------------------------------------
async def evictions(bound: int, calls: int, rounds: int) -> Figures:
    """The nanoseconds of a miss that evicts, of one that does not, and of one of a full `lru_cache`."""
    full_service, full = hosted(max_nodes=bound)
    free_service, free = hosted()
    numbers = itertools.count()
    cached = functools.lru_cache(maxsize=bound)(int)

    def fresh(calls: int) -> list[int]:
        return list(itertools.islice(numbers, calls))

    async def evicting(calls: int) -> float:
        return await timed(full_service.number, fresh(calls))

    async def below_the_bound(calls: int) -> float:
        free.invalidate_all()
        return await timed(free_service.number, fresh(calls))

    async def cached_misses(calls: int) -> float:
        misses = fresh(calls)
        begin_s = time.perf_counter()
        for number in misses:
            cached(number)
        return time.perf_counter() - begin_s

    for number in fresh(bound):
        await full_service.number(number)
        cached(number)
    best = await best_of(
        {"evicting": evicting, "below the bound": below_the_bound, "lru_cache": cached_misses},
        rounds=rounds,
        calls=calls,
    )
    if full.stats.evictions < rounds * calls or full.stats.nodes > bound:
        raise AssertionError(f"{full.stats.evictions} evictions, {full.stats.nodes} nodes left of {bound}")
    return best
