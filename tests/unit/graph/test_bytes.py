"""A.12, in bytes: the bound holds at any moment that somebody can look; values go before edges."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.graph.computing.retention import NODE_BYTES
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.pages import LARGE, MAX_BYTES, Pages, hosted, is_paged_out, size_of, value_of, watch


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    graph = Graph(max_bytes=MAX_BYTES, size_of=size_of)
    yield graph
    graph.validate()
    await graph.close()
    graph.validate()
    assert graph.stats.bytes == 0


# -- the bound -------------------------------------------------------------------------------------------------------
async def test_no_observer_and_no_estimate_sees_the_bound_exceeded() -> None:
    seen: list[float] = []

    def look(_: object) -> int:
        assert bounded.stats.bytes is not None
        seen.append(bounded.stats.bytes)
        return LARGE

    bounded = Graph(max_bytes=MAX_BYTES, size_of=look)
    pages = hosted(bounded)
    for page in range(30):
        watch(pages.length(page), look)
        watch(pages.text(page), look)
        await pages.length(page)
        look(None)
    assert max(seen) <= MAX_BYTES
    assert max(seen) > MAX_BYTES - 2 * (NODE_BYTES + LARGE)  # and is made use of
    bounded.validate()
    await bounded.close()


async def test_what_is_evicted_for_bytes_is_what_was_not_hit_for_longest(graph: Graph) -> None:
    pages = hosted(graph)
    for page in range(5):
        await pages.text(page)
    await pages.text(0)
    await pages.text(5)
    assert [pages.text.peek(page) is not None for page in range(6)] == [True, False, True, True, True, True]
    assert graph.stats.evictions == 1


async def test_a_new_value_is_not_the_first_to_go(graph: Graph) -> None:
    pages = hosted(graph)
    for page in range(5):
        await pages.text(page)
    for page in range(5):
        await pages.text(page)  # all were hit: the hand goes past all of them
    await pages.text(5)
    assert pages.text.peek(5) is not None
    assert sum(pages.text.peek(page) is not None for page in range(5)) == 4


async def test_a_small_value_among_large_ones_costs_what_it_weighs(graph: Graph) -> None:
    pages = hosted(graph)
    pages.sizes.update({7: 10, 8: 0})
    await pages.text(7)
    assert graph.stats.bytes == NODE_BYTES + 10
    await pages.text(8)
    assert graph.stats.bytes == 2 * NODE_BYTES + 10


async def test_an_error_weighs_what_a_node_weighs() -> None:
    class Failing(ComputeService):
        @compute_method
        async def get(self, number: int) -> bytes:
            raise ValueError(number)

    graph, failing = Graph(max_bytes=NODE_BYTES, size_of=size_of), Failing()
    attach(failing, GraphHosting(graph))
    for number in range(3):
        with pytest.raises(ValueError, match=str(number)):
            await failing.get(number)
        assert graph.stats.bytes == NODE_BYTES
    await graph.close()


async def test_a_bound_in_nodes_holds_beside_that_in_bytes() -> None:
    graph = Graph(max_nodes=3, max_bytes=MAX_BYTES, size_of=size_of)
    pages = hosted(graph)
    for page in range(10):
        await pages.length(page)
        assert graph.stats.nodes <= 3
    graph.validate()
    await graph.close()


@pytest.mark.parametrize("max_bytes", [0, -1, NODE_BYTES - 1, math.nan])
def test_a_bound_that_no_node_fits_into_is_refused(max_bytes: float) -> None:
    with pytest.raises(UsageError) as caught:
        Graph(max_bytes=max_bytes)
    assert caught.value.field == "max_bytes"


def test_without_a_bound_nothing_is_weighed() -> None:
    def fail(_: object) -> int:
        raise AssertionError("nobody has asked for it")

    async def main() -> None:
        graph = Graph(size_of=fail)
        await hosted(graph).text(1)
        assert graph.stats.bytes is None
        await graph.close()

    asyncio.run(main())


# -- values before edges ---------------------------------------------------------------------------------------------
async def test_a_paged_out_value_is_computed_again_and_nobody_else_hears_of_it(graph: Graph) -> None:
    pages = hosted(graph)
    lengths = [watch(pages.length(page)) for page in range(6)]
    for length in lengths:
        await length
    texts = [pages.text(page) for page in range(6)]
    assert [is_paged_out(text) for text in texts] == [True] * 4 + [False] * 2
    pages.log.clear()
    version = texts[0].version
    assert await pages.text(0) == bytes(LARGE)
    assert pages.log == ["text 0"]
    assert texts[0].version == version
    assert all(length.is_consistent for length in lengths)
    graph.validate()


async def test_an_invalidation_goes_through_a_paged_out_value(graph: Graph) -> None:
    pages = hosted(graph)
    lengths = [watch(pages.length(page)) for page in range(6)]
    for length in lengths:
        await length
    assert is_paged_out(pages.text(0))
    pages.sizes[0] = 7
    await pages.text.invalidate(0)
    assert [length.is_consistent for length in lengths] == [False] + [True] * 5
    assert await pages.length(0) == 7


async def test_an_observed_value_without_dependents_is_paged_out_too(graph: Graph) -> None:
    pages = hosted(graph)
    told: list[Computed[Any]] = []
    for page in range(8):
        watch(pages.text(page), told.append)
        await pages.text(page)
    assert told == []
    assert is_paged_out(pages.text(0))
    pages.text(0).invalidate()
    assert len(told) == 1


async def test_an_invalidation_while_a_value_is_paged_in_is_not_lost(graph: Graph) -> None:
    pages = hosted(graph)
    lengths = [watch(pages.length(page)) for page in range(6)]
    for length in lengths:
        await length
    pages.gate = asyncio.Event()
    text = pages.text(0)
    task = asyncio.create_task(value_of(text))
    await asyncio.sleep(0)
    pages.sizes[0] = 7
    await pages.text.invalidate(0)
    assert not lengths[0].is_consistent
    pages.gate.set()
    await task
    assert not text.is_consistent
    assert len(await pages.text(0)) == 7
    graph.validate()


async def test_a_page_in_that_is_cancelled_leaves_the_value_paged_out(graph: Graph) -> None:
    pages = hosted(graph)
    lengths = [watch(pages.length(page)) for page in range(6)]
    for length in lengths:
        await length
    pages.gate = asyncio.Event()
    task = asyncio.create_task(value_of(pages.text(0)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    graph.validate()
    assert is_paged_out(pages.text(0))
    assert lengths[0].is_consistent
    pages.gate.set()
    assert await pages.text(0) == bytes(LARGE)


async def test_if_values_are_not_enough_nodes_go_with_those_that_depend_on_them() -> None:
    graph = Graph(max_bytes=4 * NODE_BYTES, size_of=lambda _: 0)
    pages = hosted(graph)
    lengths = [watch(pages.length(page)) for page in range(4)]
    for length in lengths:
        await length
        assert graph.stats.bytes is not None
        assert graph.stats.bytes <= 4 * NODE_BYTES
    assert not all(length.is_consistent for length in lengths)
    graph.validate()
    await graph.close()


async def test_replicas_are_evicted_and_not_paged_out() -> None:
    """Their bodies run elsewhere, and what they would give again might be newer than what their dependents know."""

    class Replicas(GraphHosting):
        def schedules_expiry(self, node: Computed[Any]) -> bool:
            return False

    graph, pages = Graph(max_bytes=MAX_BYTES, size_of=size_of), Pages()
    attach(pages, Replicas(graph))
    texts = [watch(pages.text(page)) for page in range(8)]
    for text in texts:
        await text
    assert not any(is_paged_out(text) for text in texts)
    assert not all(text.is_consistent for text in texts)
    assert graph.stats.evictions == 3
    graph.validate()
    await graph.close()


def test_min_cache_duration_counts_before_the_bound_in_bytes_is_kept() -> None:
    async def main() -> None:
        graph = Graph(max_bytes=MAX_BYTES, size_of=size_of)
        pages = hosted(graph)
        kept = pages.kept(0)
        await kept
        for page in range(20):
            await pages.text(page)
        assert kept.is_consistent
        await asyncio.sleep(11)
        for page in range(20, 40):
            await pages.text(page)
        assert not kept.is_consistent
        graph.validate()
        await graph.close()

    run_in_virtual_time(main())
