"""A.19, and `MutableState` as the root of computations."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type, cast

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.state import MutableState


class Prices(ComputeService):
    def __init__(self, rate: MutableState[float]) -> None:
        self.rate = rate
        self.log: list[float] = []

    @compute_method
    async def by_value(self, euros: float) -> float:
        self.log.append(euros)
        return euros * self.rate.value

    @compute_method
    async def by_await(self, euros: float) -> float:
        self.log.append(euros)
        return euros * await self.rate


def prices_with(rate: MutableState[float]) -> tuple[Prices, Graph]:
    prices, graph = Prices(rate), Graph()
    attach(prices, GraphHosting(graph))
    return prices, graph


async def test_what_reads_a_state_depends_on_it() -> None:
    rate = MutableState(2.0, name="rate")
    prices, graph = prices_with(rate)
    for method in (prices.by_value, prices.by_await):
        rate.set(2.0)
        assert await method(3) == 6.0
        assert await method(3) == 6.0
        rate.set(4.0)
        assert method.peek(3) is None
        assert await method(3) == 12.0
        rate.set(2.0)
    assert prices.log == [3.0] * 4
    assert str(rate.computed.key) == "MutableState.rate()"
    graph.validate()
    cast("Graph", rate.computed.function.graph).validate()
    await graph.close()


async def test_setting_an_equal_value_updates_nothing() -> None:
    rate = MutableState(2.0)
    prices, graph = prices_with(rate)
    computed = rate.computed
    await prices.by_value(3)
    rate.set(2.0)
    rate.set(2)
    assert rate.computed is computed
    assert prices.by_value.peek(3) is not None
    await graph.close()


async def test_an_updater_always_updates() -> None:
    rate = MutableState(2.0)
    prices, graph = prices_with(rate)
    computed = rate.computed
    await prices.by_value(3)
    rate.update(lambda value: value)
    assert rate.computed is not computed
    assert not computed.is_consistent
    assert prices.by_value.peek(3) is None
    rate.update(lambda value: value + 1)
    assert rate.value == 3.0
    with pytest.raises(ZeroDivisionError):
        rate.update(lambda value: value / 0)
    assert rate.value == 3.0
    await graph.close()


async def test_a_state_can_hold_an_error() -> None:
    rate = MutableState(2.0)
    prices, graph = prices_with(rate)
    rate.set_error(LookupError("no rate today"))
    assert isinstance(rate.error, LookupError)
    for read in (lambda: rate.value, lambda: rate.update(lambda value: value)):
        with pytest.raises(LookupError):
            read()
    with pytest.raises(LookupError):
        await prices.by_await(3)
    rate.set(2.0)
    assert rate.error is None
    assert await prices.by_await(3) == 6.0
    await graph.close()


async def test_setting_the_very_error_that_it_holds_updates_nothing() -> None:
    rate = MutableState(2.0)
    error = LookupError("no rate today")
    rate.set_error(error)
    computed = rate.computed
    rate.set_error(error)
    assert rate.computed is computed
    rate.set_error(LookupError("no rate today"))
    assert rate.computed is not computed


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), LookupError, "bad"])
async def test_what_is_no_exception_is_refused_as_an_error(error: Any) -> None:
    rate = MutableState(2.0)
    with pytest.raises(UsageError) as refused:
        rate.set_error(error)
    assert refused.value.field == "error"
    assert rate.value == 2.0


async def test_an_error_that_is_not_kept_as_a_result_is_held_all_the_same() -> None:
    state = MutableState(0)
    state.set_error(ShardUnavailable())
    computed = state.computed
    assert isinstance(computed.error, ShardUnavailable)
    assert computed.is_consistent
    changes = state.changes()
    assert await anext(changes) is computed
    state.set(1)
    assert (await anext(changes)).value == 1  # at once


async def test_waiting_inside_a_computation_depends_on_nothing_but_what_is_returned() -> None:
    class Waits(ComputeService):
        @compute_method
        async def when(self) -> int:
            return (await state.when(lambda value: value == 2)).value

    state, graph, waits = MutableState(1), Graph(), Waits()
    attach(waits, GraphHosting(graph))

    async def read() -> int:
        return await waits.when()

    waiting = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    state.set(2)
    assert await waiting == 2
    assert waits.when.peek() is not None
    state.set(3)
    assert waits.when.peek() is None
    state.set_error(LookupError())
    with pytest.raises(LookupError):
        await waits.when()
    await graph.close()


async def test_a_value_changed_in_place_is_made_known_by_an_updater() -> None:
    basket = ["tea"]
    state = MutableState(basket)
    computed = state.computed
    basket.append("milk")
    state.set(basket)
    assert state.computed is computed
    state.update(lambda value: value)
    assert state.computed is not computed


def test_values_that_cannot_say_whether_they_are_equal_are_not() -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    first = Array()
    state = MutableState(first)
    computed = state.computed
    state.set(first)
    assert state.computed is computed
    state.set(Array())
    assert state.computed is not computed


async def test_an_observer_of_the_old_value_reads_the_new_one() -> None:
    state = MutableState(1)
    seen: list[int] = []
    state.computed.on_invalidated(lambda _: seen.append(state.value))
    state.set(2)
    assert seen == [2]


async def test_a_computed_invalidated_by_hand_is_followed_by_one_with_the_same_value() -> None:
    state = MutableState(1)
    computed = state.computed
    computed.invalidate()
    assert state.value == 1
    assert state.computed is not computed
    state.computed.invalidate()
    assert (await computed.update()).value == 1
    state.set_error(ValueError("bad"))
    state.computed.invalidate()
    assert isinstance((await computed.update()).error, ValueError)
    state.computed.invalidate()
    assert isinstance(state.error, ValueError)


async def test_changes_and_when() -> None:
    state = MutableState(0)
    waiting = asyncio.create_task(state.when(lambda value: value > 2))
    seen: list[int] = []
    async for computed in state.changes():
        assert_type(computed, Computed[int])
        seen.append(computed.value)
        if computed.value == 3:
            break
        state.set(computed.value + 1)
    assert seen == [0, 1, 2, 3]
    assert (await waiting).value == 3
    assert_type(await state, int)
    assert "MutableState" in repr(state)
