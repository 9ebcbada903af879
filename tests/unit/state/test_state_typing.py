"""Generics are kept in states: what mypy and pyright know, checked where it is run too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import assert_type

from fusion_cluster import ComputeService, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Computed, Graph, GraphHosting
from fusion_cluster.state import (
    BackoffDelayer,
    ComputedState,
    CutShortDelayer,
    FixedDelayer,
    MutableState,
    StateSnapshot,
    UpdateDelayer,
    UserActions,
)


class Carts(ComputeService):
    @compute_method
    async def total(self, cart_id: str) -> Decimal:
        return Decimal(len(cart_id))


async def test_types_of_a_computed_state() -> None:
    carts, graph = Carts(), Graph()
    attach(carts, GraphHosting(graph))
    async with ComputedState(lambda: carts.total("c1")) as state:
        assert_type(state, ComputedState[Decimal])
        assert_type(await state, Decimal)
        assert_type(state.value, Decimal)
        assert_type(state.error, Exception | None)
        assert_type(state.computed, Computed[Decimal])
        assert_type(state.snapshot, StateSnapshot[Decimal])
        assert_type(state.snapshot.computed, Computed[Decimal] | None)
        assert_type(state.snapshot.last_successful, Computed[Decimal] | None)
        assert_type(state.snapshot.last_value, Decimal)
        assert_type(await state.when(lambda value: value > 1), Computed[Decimal])
        changes = state.changes()
        assert_type(changes, AsyncIterator[Computed[Decimal]])
        async for computed in changes:
            assert_type(computed.value, Decimal)
            break
    await graph.close()


async def test_an_initial_value_widens_the_type() -> None:
    async def compute() -> int:
        return 1

    state: ComputedState[int | None] = ComputedState(compute, initial=None)
    assert_type(state.value, int | None)
    assert state.value is None
    numbered = ComputedState(compute, initial=0)
    assert_type(numbered, ComputedState[int])
    assert numbered.value == 0
    await state.close()
    await numbered.close()


async def test_types_of_a_mutable_state() -> None:
    state = MutableState(Decimal(1))
    assert_type(state, MutableState[Decimal])
    assert_type(await state, Decimal)
    assert_type(state.snapshot, StateSnapshot[Decimal])
    assert_type(await state.when(lambda value: value > 0), Computed[Decimal])
    async for computed in state.changes():
        assert_type(computed, Computed[Decimal])
        break
    state.update(lambda value: value + 1)
    assert state.value == 2


def test_each_delayer_is_an_update_delayer() -> None:
    delayers: list[UpdateDelayer] = [FixedDelayer(), BackoffDelayer(), CutShortDelayer(FixedDelayer(), UserActions())]
    assert len({*delayers}) == 3  # hashable, comparable: settings like any others
    assert BackoffDelayer(1.0) == BackoffDelayer(1.0)
