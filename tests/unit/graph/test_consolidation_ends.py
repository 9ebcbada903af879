"""How a consolidation ends without a verdict: the target is evicted, or replaced; the graph or its loop is closed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.graph.computing.consolidation import is_consolidated
from fusion_cluster.testing import VirtualTimeLoop, run_in_virtual_time
from tests.unit.graph.gauges import DELAY_S, Gauges, evict, in_virtual_time


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


def ignore(_: Computed[Any]) -> None:
    """Observe, and do nothing about it."""


def _forced(graph: Graph, target: Computed[Any]) -> None:
    graph.invalidate_now(target)


def _all(graph: Graph, target: Computed[Any]) -> None:
    graph.invalidate_all()


def _evicted(graph: Graph, target: Computed[Any]) -> None:
    evict(target)


ENDS = pytest.mark.parametrize("end", [_forced, _all, _evicted])


@ENDS
@pytest.mark.parametrize("is_computing", [False, True])
@in_virtual_time
async def test_a_target_that_goes_otherwise_ends_its_consolidation(
    gauges: Gauges, graph: Graph, end: Callable[[Graph, Computed[Any]], None], is_computing: bool
) -> None:
    shown = gauges.shown("a")
    await shown
    gauges.put("a", 2)
    level = gauges.level("a")
    assert is_consolidated(level)
    gate = gauges.gate("level a")
    if is_computing:
        await gate.entered.wait()
    end(graph, level)
    graph.validate()
    assert not level.is_consistent
    assert not shown.is_consistent
    await asyncio.sleep(2 * DELAY_S)
    assert gauges.runs("level a") == 1 + is_computing
    assert graph.stats.nodes == (1 if end is not _all and is_computing else 0)  # nothing is computed for nobody
    gate.open()
    gauges.gates.clear()
    assert await gauges.level("a") == 0


@ENDS
@in_virtual_time
async def test_an_end_while_others_wait_for_the_source_lets_them_have_it(
    gauges: Gauges, graph: Graph, end: Callable[[Graph, Computed[Any]], None]
) -> None:
    await gauges.shown("a")
    gauges.put("a", 30)
    gate = gauges.gate("level a")
    await gate.entered.wait()
    waiting = asyncio.create_task(value_of(gauges.level.function.source.lookup(("a",))))  # type: ignore[union-attr]
    await asyncio.sleep(0)
    graph.invalidate_now(gauges.level("a"))
    gate.open()
    assert await waiting == 3
    assert await gauges.level("a") == 3
    assert gauges.runs("level a") == 2


@in_virtual_time
async def test_a_source_that_is_evicted_takes_its_target_with_it(gauges: Gauges, graph: Graph) -> None:
    shown = gauges.shown("a")
    await shown
    source = gauges.level.function.source
    assert source is not None
    evict(source.lookup(("a",)))
    assert (shown.is_consistent, gauges.level.peek("a")) == (False, None)
    await asyncio.sleep(2 * DELAY_S)
    assert gauges.runs("level a") == 1


def test_bounds_hold_while_everything_is_consolidated() -> None:
    async def main() -> None:
        graph, gauges = Graph(max_nodes=20), Gauges()
        attach(gauges, GraphHosting(graph))
        names = [str(number) for number in range(30)]
        gauges.values.update(dict.fromkeys(names, 1))
        for round_ in range(10):
            for name in names:
                await gauges.shown(name)
                gauges.put(name, round_)
                graph.validate()
            await asyncio.sleep(DELAY_S / 2)
            graph.validate()
        await asyncio.sleep(2 * DELAY_S)
        graph.validate()
        for name in names:
            assert await gauges.level(name) == 0
        await graph.close()

    run_in_virtual_time(main())


def test_a_chain_of_evicted_consolidations_needs_no_recursion() -> None:
    class Chain(ComputeService):
        @compute_method(consolidation_delay=1)
        async def step(self, index: int) -> int:
            return 0 if index == 0 else 1 + await self.step(index - 1)

    async def main() -> None:
        graph, chain = Graph(), Chain()
        attach(chain, GraphHosting(graph))
        for index in range(3000):
            await chain.step(index)
        top = chain.step(2999)
        evict(chain.step(0))
        assert not top.is_consistent
        await graph.close()

    run_in_virtual_time(main())


class Pages(ComputeService):
    def __init__(self) -> None:
        self.runs = 0

    @compute_method(consolidation_delay=1)
    async def text(self, page: str) -> bytes:
        self.runs += 1
        return bytes(5000)

    @compute_method
    async def length(self, page: str) -> int:
        return len(await self.text(page))

    @compute_method
    async def picture(self, page: str) -> bytes:
        return bytes(12_000)


def test_a_target_whose_value_was_paged_out_cannot_be_compared() -> None:
    async def main() -> None:
        graph, pages = Graph(max_bytes=100_000), Pages()
        attach(pages, GraphHosting(graph))
        length = pages.length("a")
        await length
        text = pages.text("a")
        for _ in range(2):
            graph.registry.page_out(text)
            graph.registry.weigh(text, 400)
            graph.validate()
            assert await text == bytes(5000)  # from its source
            assert (pages.runs, length.is_consistent) == (1, True)
        graph.registry.page_out(text)
        text.invalidate()
        assert not length.is_consistent
        graph.validate()
        await graph.close()

    run_in_virtual_time(main())


def test_a_value_that_will_be_compared_is_not_paged_out() -> None:
    async def main() -> None:
        graph, pages = Graph(max_bytes=16_000), Pages()
        attach(pages, GraphHosting(graph))
        length = pages.length("a")
        await length
        length.on_invalidated(ignore)
        text = pages.text("a")
        text.invalidate()
        assert is_consolidated(text)
        await pages.picture("a")
        graph.validate()
        assert (text.is_consistent, length.is_consistent) == (False, False)  # room was made otherwise
        await graph.close()

    run_in_virtual_time(main())


# -- nothing is left -------------------------------------------------------------------------------------------------
class Watched(list[int]):
    """A value whose end can be seen."""


@ENDS
@in_virtual_time
async def test_a_consolidation_that_was_ended_keeps_nothing_in_memory(
    gauges: Gauges, graph: Graph, end: Callable[[Graph, Computed[Any]], None]
) -> None:
    gauges.values["a"] = Watched([1])
    seen = weakref.ref(gauges.values["a"])
    shown = gauges.shown("a")
    await shown
    gauges.put("a", 2)
    end(graph, gauges.level("a"))
    del shown
    gc.collect()
    assert seen() is None


def test_many_keys_that_are_consolidated_and_evicted_leave_no_memory() -> None:
    async def main() -> None:
        graph, gauges = Graph(max_nodes=30, history=0), Gauges()
        attach(gauges, GraphHosting(graph))

        async def pass_through(count: int) -> None:
            for number in range(count):
                gauges.values["a"] = number
                name = f"{number}"
                gauges.values[name] = 1
                level = gauges.level(name)
                await level
                level.on_invalidated(ignore)
                gauges.put(name, 2)
                del gauges.values[name]
                gauges.log.clear()
                if number % 10 == 0:
                    await asyncio.sleep(0.5)

        await pass_through(500)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.take_snapshot()
        await pass_through(1000)
        gc.collect()
        grown = sum(entry.size_diff for entry in tracemalloc.take_snapshot().compare_to(before, "filename"))
        tracemalloc.stop()
        await graph.close()
        assert grown < 100_000  # 100 bytes a key

    run_in_virtual_time(main())


# -- the end of the graph, or of its loop ----------------------------------------------------------------------------
@pytest.mark.parametrize("is_computing", [False, True])
@in_virtual_time
async def test_a_graph_is_closed_in_the_midst_of_it(gauges: Gauges, graph: Graph, is_computing: bool) -> None:
    shown = gauges.shown("a")
    await shown
    gauges.put("a", 30)
    gate = gauges.gate("level a")
    if is_computing:
        await gate.entered.wait()
    await graph.close()
    assert not shown.is_consistent
    graph.validate()
    await asyncio.sleep(2 * DELAY_S)
    assert gauges.runs("level a") == 1 + is_computing


@pytest.mark.parametrize("is_computing", [False, True])
def test_what_was_consolidated_in_a_loop_that_is_gone_is_invalid_in_the_next(is_computing: bool) -> None:
    graph, gauges = Graph(), Gauges()
    attach(gauges, GraphHosting(graph))
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(value_of(gauges.shown("a")))
        gauges.put("a", 30)
        if is_computing:
            gate = gauges.gate("level a")
            runner.run(asyncio.wait_for(gate.entered.wait(), 10))
        assert gauges.shown.peek("a") is not None
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(value_of(gauges.gauge("b")))
        graph.validate()
        assert runner.run(value_of(gauges.shown("a"))) == "[3]"
        runner.run(graph.close())
