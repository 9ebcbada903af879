"""A.25 in states: whatever computes, paces or judges one may exit, and it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from fusion_cluster import ComputedState, FixedDelayer, MutableState
from fusion_cluster.errors import BodyExited
from fusion_cluster.testing import run_in_virtual_time
from tests.faults.odd_errors import EXCEPTIONS, EXITS, state_of


async def value_after_errors(state: ComputedState[int]) -> int:
    async for computed in state.changes():
        if computed.error is None:
            return computed.value
    raise AssertionError("it was closed")


@pytest.mark.parametrize("kind", [*EXITS, *EXCEPTIONS])
def test_a_state_shows_what_its_computation_has_raised_and_goes_on(kind: str) -> None:
    async def main() -> None:
        source = MutableState(0)
        raised: list[BaseException] = []

        async def compute() -> int:
            if source.value == 0:
                raised.append({**EXITS, **EXCEPTIONS}[kind]())
                raise raised[0]
            return source.value

        async with ComputedState(compute, update_delayer=FixedDelayer(0)) as state:
            await state.snapshot.when_updated()
            error = state.error
            if kind in EXITS:
                assert type(error) is BodyExited
                assert f"raised {kind}" in str(error)
            else:
                assert error is raised[0]
                with pytest.raises(type(error)) as caught:
                    await state
                assert state_of(caught.value) == state_of(error)
            source.set(1)
            assert await value_after_errors(state) == 1

    run_in_virtual_time(main())


@pytest.mark.parametrize("kind", EXITS)
def test_a_delayer_and_a_classifier_may_exit(kind: str) -> None:
    class Exiting(FixedDelayer):
        async def delay(self, retry_count: int) -> None:
            raise EXITS[kind]()

    def exits(_: Exception) -> Any:
        raise EXITS[kind]()

    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            if source.value == 0:
                raise LookupError("none yet")
            return source.value

        async with ComputedState(compute, update_delayer=Exiting(), is_transient=exits) as state:
            await state.snapshot.when_updated()
            assert isinstance(state.error, LookupError)
            source.set(1)
            assert await value_after_errors(state) == 1

    run_in_virtual_time(main())
