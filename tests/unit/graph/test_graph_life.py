"""The life of a graph: its loop, its end, and what is left behind."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import InvariantViolation, UsageError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather
from fusion_cluster.graph.core.hot_path import CONSISTENT, INVALIDATED
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


async def gather_of(computed: Computed[Any]) -> Any:
    return await gather(computed)


async def test_closing_ends_what_computes_with_an_error_and_refuses_more() -> None:
    graph, cells = Graph(name="the market"), Cells(a=1, b=2)
    attach(cells, GraphHosting(graph))
    await cells.cell("b")
    kept = cells.cell("b")
    gate = cells.gate("2*a")
    task = asyncio.create_task(value_of(cells.double("a")))
    await gate.entered.wait()
    gathered = asyncio.create_task(gather_of(cells.double("a")))
    await asyncio.sleep(0)
    await graph.close()
    for waiting in (task, gathered):
        with pytest.raises(UsageError, match="the market was closed meanwhile"):
            await waiting
    assert graph.stats.nodes == 0
    assert kept.value == 2
    with pytest.raises(UsageError, match="the market is closed"):
        cells.cell("a")
    await graph.close()


def test_a_graph_belongs_to_one_loop_until_that_is_closed() -> None:
    graph, cells = Graph(), Cells(a=1, b=2)
    attach(cells, GraphHosting(graph))
    with asyncio.Runner() as first:
        first.run(value_of(cells.cell("a")))
        with asyncio.Runner() as second, pytest.raises(UsageError, match="another event loop"):
            second.run(value_of(cells.cell("b")))
        abandoned = cells.gate("2*a")
        first.get_loop().create_task(value_of(cells.double("a")))
        first.run(abandoned.entered.wait())
    with asyncio.Runner() as third:
        assert third.run(value_of(cells.double("a"))) == 2
        graph.validate()
        third.run(graph.close())


def test_a_loop_that_ends_in_mid_computation_leaves_a_graph_that_works() -> None:
    graph, cells = Graph(), Cells(a=1)
    attach(cells, GraphHosting(graph))
    gate = cells.gate("a")

    async def leave() -> None:
        cells.cell("a").join(lambda _: None)
        await gate.entered.wait()

    asyncio.run(leave())
    assert graph.stats.nodes == 0
    assert asyncio.run(value_of(cells.cell("a"))) == 1


async def test_a_graph_that_was_tampered_with_does_not_validate(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.double("a")
    double = cells.double("a")
    double._state = INVALIDATED
    with pytest.raises(InvariantViolation, match="though it is not live"):
        graph.validate()
    double._state = CONSISTENT
    graph.validate()
    waiting = cells.cell("b")
    waiting._state = CONSISTENT
    with pytest.raises(InvariantViolation, match="without an output"):
        graph.validate()
    waiting._state = 0


async def test_stats_count(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.double("a")
    await cells.double("a")
    await cells.put("a", 2)
    await cells.double("a")
    stats = graph.stats
    assert (stats.nodes, stats.hits, stats.computations, stats.invalidations, stats.evictions) == (2, 1, 4, 2, 0)


async def test_no_memory_is_left_after_many_keys_passed_through_a_bounded_graph() -> None:
    class Numbers(ComputeService):
        @compute_method
        async def get(self, number: int) -> int:
            return number

        @compute_method
        async def next(self, number: int) -> int:
            return 1 + await self.get(number)

    graph, numbers = Graph(max_nodes=100, history=100), Numbers()
    attach(numbers, GraphHosting(graph))

    async def pass_through(start: int, count: int) -> None:
        for number in range(start, start + count):
            await numbers.next(number)
            if number % 7 == 0:
                await numbers.get.invalidate(number)

    await pass_through(0, 1_000)
    tracemalloc.start()
    try:
        await pass_through(1_000, 200)
        before, _ = tracemalloc.get_traced_memory()
        await pass_through(1_200, 1_500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    graph.validate()
    await graph.close()
