"""A.21: `story` tells what has happened to a key, oldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting, Happening, StoryEntry
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.market import Market, here


@pytest.fixture
def market(host: Callable[[Market], Market]) -> Market:
    return host(Market())


def marketplace(graph: Graph) -> Market:
    market = Market()
    attach(market, GraphHosting(graph))
    return market


def happenings(story: list[StoryEntry]) -> list[str]:
    return [entry.happening.value for entry in story]


async def test_computed_invalidated_and_computed_again_with_versions_and_times(market: Market) -> None:
    first = market.discounted(3)
    await first
    line = here() + 1
    market.price.invalidate(3)
    second = market.discounted(3)
    await second
    story = market.discounted.story(3)
    assert happenings(story) == ["computed", "invalidated", "computed"]
    assert [entry.version for entry in story] == [first.version, first.version, second.version]
    times_s = [entry.time_s for entry in story]
    assert times_s == sorted(times_s)
    assert story[0].origin is None
    trace = story[1].trace
    assert trace is not None
    assert [str(hop) for hop in trace.hops] == ["Market.discounted(3)", "Market.price(3)"]
    assert trace.origin.place is not None
    assert trace.origin.place.line == line
    assert str(story[0]).endswith(f"  computed v{first.version}")
    assert f"  invalidated v{first.version} ← Market.price(3) ← a call of invalidate() at " in str(story[1])


async def test_the_story_is_that_of_the_key_alone(market: Market, graph: Graph) -> None:
    one, other = market.price(1), market.price(2)
    await one
    await other
    market.price.invalidate(2)
    assert happenings(market.price.story(1)) == ["computed"]
    assert graph.story(other) == graph.story(other.key) == market.price.story(2)
    assert happenings(graph.story(other)) == ["computed", "invalidated"]


async def test_a_failure_names_the_class_of_the_error(market: Market) -> None:
    market.errors.append(LookupError("the message is not kept"))
    flaky = market.flaky()
    await flaky.update()
    (entry,) = market.flaky.story()
    assert entry.happening is Happening.FAILED
    assert entry.error == "LookupError"
    assert entry.version == flaky.version
    assert str(entry).endswith(f"  failed v{flaky.version}, LookupError")


async def test_what_is_invalidated_while_it_is_computed_has_no_version_yet(market: Market) -> None:
    held = market.held(3)
    reading = asyncio.ensure_future(held.update())
    await market.entered.wait()
    market.price.invalidate(3)
    market.gate.set()
    await reading
    invalidated, computed = market.held.story(3)
    assert (invalidated.happening, invalidated.version) == (Happening.INVALIDATED, 0)
    assert "invalidated while it was being computed ← Market.price(3) ←" in str(invalidated)
    assert (computed.happening, computed.version) == (Happening.COMPUTED, held.version)
    assert str(computed).endswith(f"computed v{held.version} ← it was out of date before it was computed")


async def test_an_eviction_is_called_one_and_names_the_bound() -> None:
    graph = Graph(max_nodes=1)
    market = marketplace(graph)
    await market.price(1)
    await market.price(2)
    story = market.price.story(1)
    assert happenings(story) == ["computed", "evicted"]
    assert str(story[1]).endswith(" ← it was evicted to keep the graph's bound max_nodes=1")
    await graph.close()


async def test_values_that_are_let_go_of_and_come_back_are_told() -> None:
    graph = Graph(max_bytes=7_000)
    market = marketplace(graph)
    shown = market.shown(1, 2)
    await shown
    shown.on_invalidated(lambda _: None)  # so that it stays
    await market.wide(2, 4)
    assert happenings(market.wide.story(1, 2)) == ["computed", "paged out"]
    assert await market.wide(1, 2) == bytes(2000)
    story = market.wide.story(1, 2)
    assert happenings(story)[:3] == ["computed", "paged out", "paged in"]
    assert len({entry.version for entry in story}) == 1, "it is the same computed"
    assert shown.is_consistent
    await graph.close()


def test_a_delay_is_told_where_it_begins_and_where_it_ends() -> None:
    async def script() -> None:
        graph = Graph()
        market = marketplace(graph)
        delayed = market.delayed(3)
        await delayed
        market.price.invalidate(3)
        assert happenings(market.delayed.story(3)) == ["computed", "to be invalidated after a delay"]
        await delayed.when_invalidated()
        story = market.delayed.story(3)
        assert happenings(story) == ["computed", "to be invalidated after a delay", "invalidated"]
        assert [len(entry.trace.hops) for entry in story if entry.trace] == [2, 2]
        delayed = market.delayed(3)
        await delayed
        delayed.invalidate()  # itself: this waits, too
        assert happenings(market.delayed.story(3))[3:] == ["computed", "to be invalidated after a delay"]
        await graph.close()

    run_in_virtual_time(script())


async def test_a_state_tells_who_has_set_it(graph: Graph) -> None:
    market = Market()
    assert market.rate.value == 2
    line = here() + 1
    market.rate.set(3)
    story = graph.story(market.rate.computed)
    assert happenings(story) == ["computed", "invalidated", "computed"]
    assert story[2].origin is not None
    assert story[2].origin.place is not None
    assert story[2].origin.place.line == line
    assert " ← set() of MutableState.rate at " in str(story[2])


async def test_the_story_goes_back_as_far_as_the_history() -> None:
    graph = Graph(history=5)
    market = marketplace(graph)
    for _ in range(10):
        await market.price(3)
        market.price.invalidate(3)
    assert happenings(market.price.story(3)) == ["invalidated", "computed", "invalidated", "computed", "invalidated"]
    for product in range(10, 15):
        await market.price(product)
    assert market.price.story(3) == []
    assert market.price.why(3) is None
    await graph.close()
