"""A.6 to A.8 and A.18: invalidation is at once, transitive, told once, and needs no recursion."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Computed, Graph, GraphHosting, State, compute_method
from fusion_cluster.graph.core.hot_path import CONSISTENT, IS_NATIVE, capture, dependencies_of, dependents_of
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


async def test_a_dependency_invalidated_mid_compute_invalidates_the_result(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("2*a")
    told: list[Computed[Any]] = []
    double = cells.double("a")
    double.on_invalidated(told.append)
    waiters = [asyncio.create_task(value_of(double)) for _ in range(3)]
    await gate.entered.wait()
    await cells.put("a", 2)
    assert told == [double]
    assert double.state is State.COMPUTING
    gate.open()
    assert await asyncio.gather(*waiters) == [2, 2, 2]
    assert not double.is_consistent
    assert double.value == 2
    assert told == [double]
    assert await cells.double("a") == 4
    assert cells.log == ["a", "2*a", "a", "2*a"]


async def test_invalidation_reaches_transitive_dependents_before_it_returns(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    computeds = [cells.cell("a"), cells.cell("b"), cells.double("a"), cells.total(("a", "b")), cells.total(("b",))]
    for computed in computeds:
        await computed
    cells.cell("a").invalidate()
    assert [computed.is_consistent for computed in computeds] == [False, True, False, False, True]
    assert len(cells.log) == 5  # nothing was recomputed by it


async def test_when_invalidated_fires_once_and_at_once_if_it_is_already(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    computed = cells.cell("a")
    await computed
    told: list[Computed[Any]] = []
    computed.on_invalidated(told.append)
    waiting = [asyncio.create_task(computed.when_invalidated()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    computed.invalidate()
    computed.invalidate()
    await asyncio.gather(*waiting)
    assert told == [computed]
    computed.on_invalidated(told.append)
    assert told == [computed, computed]
    await computed.when_invalidated()


async def test_an_observer_given_twice_is_told_once_and_one_removed_not_at_all(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    computed = cells.cell("a")
    told: list[str] = []

    def first(_: Computed[int]) -> None:
        told.append("first")

    def second(_: Computed[int]) -> None:
        told.append("second")

    def third(_: Computed[int]) -> None:
        told.append("third")

    computed.on_invalidated(first)
    computed.on_invalidated(first)
    computed.remove_observer(second)
    computed.on_invalidated(second)
    computed.on_invalidated(third)
    computed.on_invalidated(first)
    computed.remove_observer(second)
    computed.invalidate()
    assert told == ["first", "third"]
    computed.remove_observer(first)


async def test_the_only_observer_can_be_removed(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    told: list[Computed[Any]] = []
    computed = cells.cell("a")
    computed.on_invalidated(told.append)
    computed.remove_observer(told.append)
    computed.invalidate()
    assert told == []


async def test_one_observer_that_raises_does_not_stop_the_others(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.double("a")
    told: list[Computed[Any]] = []

    def broken(_: Computed[Any]) -> None:
        raise RuntimeError("an observer's own trouble")

    for computed in (cells.cell("a"), cells.double("a")):
        computed.on_invalidated(broken)
        computed.on_invalidated(told.append)
    with caplog.at_level(logging.CRITICAL, "fusion_cluster"):
        cells.cell("a").invalidate()
    assert len(told) == 2


async def test_an_observer_that_reads_sees_no_dependent_that_is_not_marked_yet(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.double("a")
    seen: list[object] = []
    cells.cell("a").on_invalidated(lambda _: seen.append(cells.double.peek("a")))
    cells.cell("a").invalidate()
    assert seen == [None]


async def test_an_observer_may_invalidate_and_call(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    await cells.double("a")
    await cells.double("b")
    tasks: list[asyncio.Task[Any]] = []

    def observer(_: Computed[Any]) -> None:
        cells.cell("b").invalidate()
        tasks.append(asyncio.create_task(value_of(cells.double("a"))))

    cells.cell("a").on_invalidated(observer)
    await cells.put("a", 5)
    assert cells.double.peek("b") is None
    assert await tasks[0] == 10


async def test_what_an_observer_reads_is_no_dependency_of_the_computation_that_invalidated(host: Host) -> None:
    class Meddler(ComputeService):
        @compute_method
        async def meddle(self) -> int:
            cells.cell("a").invalidate()
            return 1

    cells: Cells = host(Cells(a=1))
    meddler: Meddler = host(Meddler())
    await cells.cell("a")
    read: list[int] = []
    cells.cell("a").on_invalidated(lambda computed: read.append(computed.value))
    assert await meddler.meddle() == 1
    assert read == [1]
    assert meddler.meddle.peek() is not None


async def test_an_invalidated_computed_keeps_its_value(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    computed = cells.cell("a")
    with pytest.raises(UsageError, match="no output"):
        _ = computed.value
    await computed
    version = computed.version
    await cells.put("a", 2)
    assert computed.value == 1
    assert computed.error is None
    assert await computed == 1
    assert computed.version == version != 0
    assert computed.version != (await cells.cell("a").update()).version


async def test_an_invalidation_of_what_is_not_cached_does_nothing(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.cell.invalidate("a")
    assert graph.stats.invalidations == 0


async def test_invalidate_all_leaves_nothing(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    await cells.total(("a", "b"))
    graph.invalidate_all()
    assert graph.stats.nodes == 0
    assert graph.stats.invalidations == 3


async def test_another_thread_may_not_invalidate(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    computed = cells.cell("a")
    await computed
    caught: list[BaseException] = []

    def meddle() -> None:
        try:
            computed.invalidate()
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=meddle)
    thread.start()
    thread.join()
    assert "another thread" in str(caught[0])
    assert computed.is_consistent


# -- size ------------------------------------------------------------------------------------------------------------
class Links(ComputeService):
    @compute_method
    async def link(self, index: int) -> int:
        return index


def consistent(links: Links, index: int, *dependencies: Computed[int]) -> Computed[int]:
    """Make a consistent node with edges, as its computation would, without the cost of a task."""
    node = links.link.function.lookup((index,))
    for dependency in dependencies:
        capture(node, dependency)
    node._value = index
    node.version = 1
    node._state = CONSISTENT
    return node


LONG = 1_000_000 if IS_NATIVE else 100_000
"""A stack in C overflows later than one in Python does."""


@pytest.fixture
def without_gc() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("size", [LONG])
def test_a_long_chain_is_invalidated_without_recursion(size: int) -> None:
    graph, links = Graph(max_nodes=size), Links()
    attach(links, GraphHosting(graph))
    first = node = consistent(links, 0)
    for index in range(1, size):
        node = consistent(links, index, node)
    assert size > sys.getrecursionlimit()
    assert graph.stats.nodes == size
    first.invalidate()
    assert graph.stats.nodes == 0
    assert node.state is State.INVALIDATED
    assert not dependencies_of(node)
    assert not dependents_of(first)


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("size", [LONG])
def test_a_wide_fan_out_is_invalidated_without_recursion(size: int) -> None:
    graph, links = Graph(max_nodes=size), Links()
    attach(links, GraphHosting(graph))
    root = consistent(links, 0)
    for index in range(1, size):
        consistent(links, index, root)
    root.invalidate()
    assert graph.stats.nodes == 0
    assert graph.stats.invalidations == size
    assert not dependents_of(root)


def test_a_long_chain_that_is_dropped_is_freed_without_recursion() -> None:
    graph, links = Graph(), Links()
    attach(links, GraphHosting(graph))
    node = consistent(links, 0)
    for index in range(1, 200_000):
        node = consistent(links, index, node)
    del node, graph, links


async def test_a_long_chain_can_be_computed(host: Host) -> None:
    class Chain(ComputeService):
        @compute_method
        async def step(self, index: int) -> int:
            return 0 if index == 0 else 1 + await self.step(index - 1)

    chain: Chain = host(Chain())
    assert await chain.step(5_000) == 5_000
    top = chain.step(5_000)
    chain.step(0).invalidate()
    assert not top.is_consistent
