"""A.21: who has set a state, and where; why a computed state is computed again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from fusion_cluster.graph import Cause, Computed
from fusion_cluster.graph.why.recall import explain, tell
from fusion_cluster.state import ComputedState, FixedDelayer, MutableState
from fusion_cluster.testing import run_in_virtual_time


def cause_of(computed: Computed[int]) -> Cause:
    explanation = explain(computed.function, (), computed)
    assert explanation is not None
    assert explanation.origin is not None
    return explanation.origin


def change_by_set(state: MutableState[int]) -> int:
    state.set(2)
    return sys._getframe().f_lineno - 1


def change_by_update(state: MutableState[int]) -> int:
    state.update(lambda value: value + 1)
    return sys._getframe().f_lineno - 1


def change_by_set_error(state: MutableState[int]) -> int:
    state.set_error(ValueError("no"))
    return sys._getframe().f_lineno - 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_by_set, "set() of MutableState.rate"),
        (change_by_update, "update() of MutableState.rate"),
        (change_by_set_error, "set_error() of MutableState.rate"),
    ],
)
async def test_a_change_of_a_state_names_it_and_the_line(change: Callable[[MutableState[int]], int], says: str) -> None:
    state = MutableState(1, name="rate")
    before = state.computed
    line = change(state)
    cause = cause_of(before)
    assert (cause.kind, cause.what) == ("state", says)
    assert cause.place is not None
    assert (cause.place.file, cause.place.line, cause.place.function) == (__file__, line, change.__name__)


async def test_a_computed_state_follows_the_chain_into_what_it_has_read() -> None:
    rate = MutableState(1, name="rate")

    async def double() -> int:
        return 2 * await rate

    async with ComputedState(double, name="double", update_delayer=FixedDelayer(0.0)) as state:
        await state
        before = state.computed
        rate.set(5)
        explanation = explain(before.function, (), before)
        assert explanation is not None
        assert [str(hop) for hop in explanation.hops] == ["ComputedState.double()", "MutableState.rate()"]
        assert cause_of(before).what == "set() of MutableState.rate"


async def test_a_computed_state_that_is_invalidated_by_hand_says_so() -> None:
    async def one() -> int:
        return 1

    async with ComputedState(one, name="one") as state:
        await state
        before = state.computed
        state.invalidate()
        cause = cause_of(before)
        assert cause.what == "invalidate() of ComputedState.one"
        assert cause.place is not None
        assert cause.place.function == "test_a_computed_state_that_is_invalidated_by_hand_says_so"


def test_a_retry_after_a_transient_error_says_so() -> None:
    async def script() -> None:
        errors: list[Exception] = [ConnectionError()]

        async def fragile() -> int:
            if errors:
                raise errors.pop()
            return 1

        delayer = FixedDelayer(0.0, retry_delay_s=0.25)
        async with ComputedState(fragile, name="fragile", update_delayer=delayer) as state:
            failed = await anext(aiter(state.changes()))
            assert failed.error is not None
            await failed.when_invalidated()
            assert cause_of(failed).kind == "retry"
            assert str(cause_of(failed)) == "it is computed again, after a transient error"

    run_in_virtual_time(script())


async def test_an_initial_value_is_no_mystery() -> None:
    gate = asyncio.Event()

    async def late() -> int:
        await gate.wait()
        return 1

    async with ComputedState(late, name="late", initial=0) as state:
        assert str(cause_of(state.computed)) == "it was only what is shown before the first computation"
        gate.set()


async def test_a_state_remembers_a_bounded_number_of_its_changes() -> None:
    state = MutableState(0, name="counter")
    for value in range(1, 1000):
        state.set(value)
    computed = state.computed
    assert len(tell(computed.function, ())) <= 64
