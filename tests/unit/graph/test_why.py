"""A.21: `why` names the origin of an invalidation, and every computed that it went through."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Graph, GraphHosting, Key, Place, State, compute_method
from fusion_cluster.state import MutableState
from tests.unit.graph.market import Market, here, names


@pytest.fixture
def market(host: Callable[[Market], Market]) -> Market:
    return host(Market())


def marketplace(graph: Graph) -> Market:
    market = Market()
    attach(market, GraphHosting(graph))
    return market


# -- hops --------------------------------------------------------------------------------------------------------------
async def test_a_key_that_was_invalidated_itself_is_the_only_hop(market: Market, graph: Graph) -> None:
    price = market.price(3)
    await price
    line = here() + 1
    market.price.invalidate(3)
    explanation = graph.why(price)
    assert explanation is not None
    assert explanation.is_out_of_date
    assert explanation.state is State.INVALIDATED
    assert names(explanation) == ["Market.price(3)"]
    assert explanation.hops[0].version == price.version
    assert explanation.origin is not None
    assert explanation.origin.kind == "call"
    place = Place(__file__, line, "test_a_key_that_was_invalidated_itself_is_the_only_hop")
    assert explanation.origin.place == place
    assert str(explanation.origin) == f"a call of invalidate() at {place}"
    assert str(place).startswith("tests/unit/graph/test_why.py:"), "the path is shortened"


async def test_every_computed_between_the_key_and_the_origin_is_a_hop(market: Market, graph: Graph) -> None:
    total = market.total(first=3, second=4)
    await total
    line = here() + 1
    market.price(3).invalidate()
    explanation = graph.why(total)
    assert names(explanation) == ["Market.total(3, 4)", "Market.discounted(3)", "Market.price(3)"]
    assert explanation is not None
    assert not (explanation.trace and explanation.trace.has_forgotten_hops)
    assert explanation.origin is not None
    assert explanation.origin.place is not None
    assert explanation.origin.place.line == line
    times_s = [hop.time_s for hop in explanation.hops]
    assert times_s == sorted(times_s, reverse=True)


async def test_of_a_diamond_one_way_is_told_and_each_computed_once(market: Market, graph: Graph) -> None:
    total = market.total(first=3, second=3)  # price(3) directly, and through discounted(3)
    await total
    market.price.invalidate(3)
    told = names(graph.why(total))
    assert told in (
        ["Market.total(3, 3)", "Market.price(3)"],
        ["Market.total(3, 3)", "Market.discounted(3)", "Market.price(3)"],
    )


async def test_a_chain_goes_on_through_the_graph_of_a_state(market: Market, graph: Graph) -> None:
    abroad = market.abroad(3)
    await abroad
    line = here() + 1
    market.rate.set(5)
    explanation = graph.why(abroad)
    assert names(explanation) == ["Market.abroad(3)", "MutableState.rate()"]
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.kind == "state"
    assert explanation.origin.what == "set() of MutableState.rate"
    assert explanation.origin.place is not None
    assert explanation.origin.place.line == line
    of_the_state = graph.why(market.rate.computed)
    assert of_the_state is not None
    assert of_the_state.hops == explanation.hops[1:], "a state's computed is asked for like any other"


async def test_a_state_that_is_gone_is_not_kept_for_the_chain_but_the_origin_is(graph: Graph) -> None:
    class Reader(ComputeService):
        states: list[MutableState[int]]

        @compute_method
        async def read(self) -> int:
            return self.states[0].value

    reader = Reader()
    reader.states = [MutableState(1, name="brief")]
    attach(reader, GraphHosting(graph))
    read = reader.read()
    await read
    reader.states[0].set(2)
    reader.states.clear()
    gc.collect()
    explanation = graph.why(read)
    assert names(explanation) == ["Reader.read()"]
    assert explanation is not None
    assert explanation.trace is not None
    assert explanation.trace.has_forgotten_hops
    assert explanation.trace.origin.what == "set() of MutableState.brief"


async def test_what_reads_a_computed_that_is_out_of_date_is_so_for_the_same_reason(
    market: Market, graph: Graph, host: Callable[[Any], Any]
) -> None:
    class Late(ComputeService):
        @compute_method
        async def late(self) -> int:
            return old.value

    old = market.discounted(3)
    await old
    line = here() + 1
    market.price.invalidate(3)
    late = host(Late()).late()
    await late
    assert not late.is_consistent
    explanation = graph.why(late)
    assert names(explanation) == ["Late.late()", "Market.discounted(3)", "Market.price(3)"]
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.place is not None
    assert explanation.origin.place.line == line


async def test_what_reads_an_old_value_of_a_state_is_out_of_date_since_that_was_set(
    market: Market, graph: Graph, host: Callable[[Any], Any]
) -> None:
    class Late(ComputeService):
        @compute_method
        async def late(self) -> int:
            return old.value

    old = market.rate.computed
    market.rate.set(9)
    late = host(Late()).late()
    assert await late == 2
    explanation = graph.why(late)
    assert names(explanation) == ["Late.late()", "MutableState.rate()"]
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.kind == "state"


async def test_of_what_went_long_before_it_is_read_no_origin_is_known(
    market: Market, graph: Graph, host: Callable[[Any], Any]
) -> None:
    class Late(ComputeService):
        @compute_method
        async def late(self) -> int:
            return old.value

    old = market.price(3)
    await old
    market.price.invalidate(3)
    for product in range(2000):
        await market.price(product)
    late = host(Late()).late()
    await late
    explanation = graph.why(late)
    assert explanation is not None
    assert explanation.origin is not None
    assert str(explanation.origin) == "it was given what has been out of date for longer than is remembered"
    assert not late.is_consistent


# -- what a key is now -------------------------------------------------------------------------------------------------
async def test_of_a_key_that_nobody_has_asked_for_nothing_is_known(market: Market, graph: Graph) -> None:
    assert market.price.why(3) is None
    assert market.price.story(3) == []
    assert graph.why(Key("Market", "no_such_method", (3,))) is None
    assert graph.story(Key("Market", "no_such_method", (3,))) == []


async def test_a_key_that_is_up_to_date_says_when_it_was_computed(market: Market) -> None:
    await market.price(3)
    explanation = market.price.why(3)
    assert explanation is not None
    assert explanation.state is State.CONSISTENT
    assert not explanation.is_out_of_date
    assert explanation.computed_at_s is not None
    assert explanation.trace is None
    assert str(explanation).startswith("Market.price(3) is not out of date: computed at ")


async def test_a_key_that_was_computed_again_still_says_why_the_last_result_went(market: Market) -> None:
    old = market.price(3)
    await old
    market.price.invalidate(3)
    await market.price(3)
    explanation = market.price.why(3)
    assert explanation is not None
    assert not explanation.is_out_of_date
    assert explanation.computed_at_s is not None
    assert [hop.version for hop in explanation.hops] == [old.version]
    assert "it was invalidated at" in explanation.summary


async def test_a_computed_says_why_it_went_also_when_newer_ones_have_gone_for_other_reasons(
    market: Market, graph: Graph
) -> None:
    first = market.abroad(3)
    await first
    market.price.invalidate(3)
    second = market.abroad(3)
    await second
    market.rate.set(7)
    assert names(graph.why(first)) == ["Market.abroad(3)", "Market.price(3)"]
    assert names(graph.why(second)) == names(market.abroad.why(3)) == ["Market.abroad(3)", "MutableState.rate()"]


async def test_a_key_that_is_being_computed_says_so(market: Market, graph: Graph) -> None:
    held = market.held(3)
    reading = asyncio.ensure_future(held.update())
    await market.entered.wait()
    explanation = market.held.why(3)
    assert explanation is not None
    assert explanation.state is State.COMPUTING
    assert not explanation.is_out_of_date
    assert str(explanation) == "Market.held(3) is being computed"
    market.price.invalidate(3)
    outdated = graph.why(held)
    assert outdated is not None
    assert outdated.state is State.COMPUTING
    assert outdated.is_out_of_date
    assert outdated.hops[0].version == 0
    assert "is out of date, and still being computed" in str(outdated)
    market.gate.set()
    await reading
    assert names(graph.why(held)) == ["Market.held(3)", "Market.price(3)"], "also when it has its version"


async def test_every_spelling_of_a_call_is_the_same_key(market: Market) -> None:
    await market.total(first=1, second=2)
    market.price.invalidate(2)
    assert market.total.why(second=2, first=1) == market.total.why(first=1, second=2) is not None
    assert market.total.story(second=2, first=1) == market.total.story(first=1, second=2) != []


async def test_a_service_without_a_host_says_so() -> None:
    with pytest.raises(UsageError, match="not hosted"):
        Market().price.why(3)
    with pytest.raises(UsageError, match="not hosted"):
        Market().price.story(3)


# -- what is forgotten -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("history", [3, 10, 50])
async def test_of_forgotten_hops_it_is_told_that_they_are_and_the_origin_all_the_same(history: int) -> None:
    graph = Graph(history=history)
    market = marketplace(graph)
    top = market.chain(100)
    await top
    line = here() + 1
    market.chain.invalidate(0)
    explanation = graph.why(top)
    assert explanation is not None
    assert names(explanation) == [f"Market.chain({length})" for length in range(100, 100 - history, -1)]
    assert explanation.trace is not None
    assert explanation.trace.has_forgotten_hops
    assert "← … what lies between is forgotten … ← a call of invalidate() at" in str(explanation.trace)
    assert explanation.trace.origin.place is not None
    assert explanation.trace.origin.place.line == line
    await graph.close()


async def test_a_large_history_keeps_the_whole_chain_and_its_text_leaves_out_the_middle() -> None:
    graph = Graph(history=1_000_000)
    market = marketplace(graph)
    top = market.chain(900)
    await top
    market.chain.invalidate(0)
    explanation = graph.why(top)
    assert len(names(explanation)) == 901
    assert explanation is not None
    text = str(explanation)
    assert "… 861 more …" in text
    assert text.count("Market.chain(") == 41, "20 at each end, and the key in the headline"
    await graph.close()


async def test_without_a_history_only_what_is_there_now_is_known() -> None:
    graph = Graph(history=0)
    market = marketplace(graph)
    price = market.discounted(3)
    await price
    consistent = market.discounted.why(3)
    assert consistent is not None
    assert str(consistent) == "Market.discounted(3) is not out of date"
    assert consistent.computed_at_s is None
    market.price.invalidate(3)
    assert market.discounted.why(3) is None
    assert market.discounted.story(3) == []
    forgotten = graph.why(price)
    assert forgotten is not None
    assert forgotten.is_out_of_date
    assert forgotten.origin is None
    assert str(forgotten) == "Market.discounted(3) is out of date; why is forgotten"
    await graph.close()


# -- texts -------------------------------------------------------------------------------------------------------------
async def test_an_explanation_reads_from_the_key_down_to_the_origin(market: Market) -> None:
    await market.discounted(3)
    market.price.invalidate(3)
    explanation = market.discounted.why(3)
    assert explanation is not None
    head, *lines = str(explanation).splitlines()
    assert head.startswith("Market.discounted(3) is out of date, since ")
    assert lines[:2] == ["  Market.discounted(3)", "  ← Market.price(3)"]
    assert lines[2].startswith("  ← a call of invalidate() at tests/unit/graph/test_why.py:")
    assert len(lines) == 3


async def test_rich_shows_the_same(market: Market) -> None:
    await market.discounted(3)
    market.price.invalidate(3)
    explanation = market.discounted.why(3)
    out = io.StringIO()
    Console(file=out, width=500).print(explanation)
    assert [line.rstrip() for line in out.getvalue().splitlines()] == str(explanation).splitlines()
