"""A.21: every invalidation has an origin, and says what is to be known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.graph import Graph, GraphHosting, compute_method
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.market import Market, here, names


@pytest.fixture
def market(host: Callable[[Market], Market]) -> Market:
    return host(Market())


def marketplace(graph: Graph) -> Market:
    market = Market()
    attach(market, GraphHosting(graph))
    return market


async def test_an_eviction_names_the_bound_in_nodes() -> None:
    graph = Graph(max_nodes=2)
    market = marketplace(graph)
    first = market.price(1)
    await first
    for product in range(2, 5):
        await market.price(product)
    explanation = graph.why(first)
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.kind == "evicted"
    assert str(explanation.origin) == "it was evicted to keep the graph's bound max_nodes=2"
    await graph.close()


async def test_what_depends_on_an_evicted_computed_goes_with_it_and_says_so() -> None:
    graph = Graph(max_nodes=3)
    market = marketplace(graph)
    deep = market.chain(2)
    await deep
    await market.price(1)
    await market.price(2)
    await market.price(3)
    explanation = graph.why(deep)
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.kind == "evicted"
    assert names(explanation)[0] == "Market.chain(2)"
    await graph.close()


async def test_an_eviction_names_the_bound_in_bytes() -> None:
    graph = Graph(max_bytes=20_000)
    market = marketplace(graph)
    first = market.wide(1, 2)
    await first
    for product in range(2, 30):
        await market.wide(product, 2)
    explanation = graph.why(first)
    assert explanation is not None
    assert explanation.origin is not None
    assert str(explanation.origin) == "it was evicted to keep the graph's bound max_bytes=20,000"
    await graph.close()


def test_what_has_lived_its_time_says_for_how_long() -> None:
    async def script() -> None:
        graph = Graph()
        market = marketplace(graph)
        fleeting = market.fleeting(1)
        await fleeting
        await fleeting.when_invalidated()
        explanation = graph.why(fleeting)
        assert explanation is not None
        assert explanation.origin is not None
        assert explanation.origin.kind == "expired"
        assert str(explanation.origin) == "its auto_invalidation_delay of 5 s was over"
        await graph.close()

    run_in_virtual_time(script())


class Patient(Exception):
    retry_after_s = 7.5


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "the transient_error_delay of 3 s after TimeoutError was over"),
        (ValueError(), "the error_delay of 40 s after ValueError was over"),
        (Patient(), "the retry_after_s of 7.5 s after Patient was over"),
    ],
)
def test_an_error_that_is_tried_again_says_which_delay_is_over(error: Exception, says: str) -> None:
    async def script() -> None:
        graph = Graph()
        market = marketplace(graph)
        market.errors.append(error)
        flaky = market.flaky()
        await flaky.update()
        await flaky.when_invalidated()
        explanation = graph.why(flaky)
        assert explanation is not None
        assert str(explanation.origin) == says
        await graph.close()

    run_in_virtual_time(script())


async def test_an_error_that_is_not_kept_says_so(market: Market, graph: Graph) -> None:
    market.errors.append(ShardUnavailable("not now"))
    flaky = market.flaky()
    await flaky.update()
    explanation = graph.why(flaky)
    assert explanation is not None
    assert explanation.is_out_of_date
    assert str(explanation.origin) == "ShardUnavailable is an error that is not kept as a result"


async def test_a_computation_that_nobody_waits_for_any_more_says_so(market: Market, graph: Graph) -> None:
    held = market.held(3)
    reading = asyncio.ensure_future(held.update())
    await market.entered.wait()
    reading.cancel()
    await asyncio.wait([reading])
    explanation = graph.why(held)
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.kind == "cancelled"
    assert str(explanation.origin) == "its computation was cancelled, as nobody waited for it any more"


async def test_a_computation_that_cancels_itself_says_so(graph: Graph, host: Callable[[Any], Any]) -> None:
    class Quitter(ComputeService):
        @compute_method
        async def quit(self) -> int:
            raise asyncio.CancelledError

    quitter = host(Quitter())
    node = quitter.quit()
    with pytest.raises(asyncio.CancelledError):
        await node
    explanation = graph.why(node)
    assert explanation is not None
    assert str(explanation.origin) == "its computation was cancelled from within"


async def test_the_end_of_the_graph_is_an_origin(market: Market) -> None:
    graph = Graph()
    other = marketplace(graph)
    price, held = other.price(1), other.held(2)
    await price
    reading = asyncio.ensure_future(held.update())
    await other.entered.wait()
    await graph.close()
    await asyncio.wait([reading])
    for node in (price, held):
        explanation = graph.why(node)
        assert explanation is not None
        assert str(explanation.origin) == "the graph was closed"


def test_a_delayed_invalidation_knows_the_way_to_what_began_the_delay() -> None:
    async def script() -> None:
        graph = Graph()
        market = marketplace(graph)
        delayed = market.delayed(3)
        await delayed
        line = here() + 1
        market.price.invalidate(3)
        assert delayed.is_consistent
        waiting = graph.why(delayed)
        assert waiting is not None
        assert not waiting.is_out_of_date
        await delayed.when_invalidated()
        explanation = graph.why(delayed)
        assert names(explanation) == ["Market.delayed(3)", "Market.price(3)"]
        assert explanation is not None
        assert explanation.origin is not None
        assert explanation.origin.place is not None
        assert explanation.origin.place.line == line
        assert explanation.hops[0].time_s >= explanation.hops[1].time_s
        await graph.close()

    run_in_virtual_time(script())


def test_what_ends_a_delay_early_is_the_origin_and_not_what_began_it() -> None:
    async def script() -> None:
        graph = Graph()
        market = marketplace(graph)
        delayed = market.delayed(3)
        await delayed
        market.price.invalidate(3)
        await graph.close()
        explanation = graph.why(delayed)
        assert names(explanation) == ["Market.delayed(3)"]
        assert explanation is not None
        assert str(explanation.origin) == "the graph was closed"

    run_in_virtual_time(script())


def test_a_consolidation_that_finds_a_difference_tells_the_way_without_its_own_inside() -> None:
    async def script() -> None:
        graph = Graph()
        market = marketplace(graph)
        label = market.label(3)
        await label
        market.price.invalidate(3)
        await asyncio.sleep(5)
        assert label.is_consistent, "the same came out"
        market.price_now = 2
        line = here() + 1
        market.price.invalidate(3)
        await label.when_invalidated()
        explanation = graph.why(label)
        assert names(explanation) == ["Market.label(3)", "Market.rounded(3)", "Market.price(3)"]
        assert explanation is not None
        assert explanation.origin is not None
        assert explanation.origin.place is not None
        assert explanation.origin.place.line == line, "the second change, not the first"
        await graph.close()

    run_in_virtual_time(script())
