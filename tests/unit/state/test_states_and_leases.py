"""A state has a graph of its own: what expires in the graph that it reads from is not shown as up to date here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.state import ComputedState
from tests.rented_replicas import rent
from tests.unit.graph.cells import Cells


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    graph = Graph()
    yield graph
    graph.validate()
    await graph.close()


@pytest.fixture
def cells(graph: Graph) -> Cells:
    cells = Cells(a=1, b=2)
    attach(cells, GraphHosting(graph))
    return cells


async def test_an_awaited_state_is_never_what_was_computed_from_an_expired_replica(graph: Graph, cells: Cells) -> None:
    await cells.cell("a")
    clock, lease = rent(graph, cells.cell("a"))
    state = ComputedState(lambda: cells.double("a"))
    assert await state == await state == 2
    shown = state.computed
    cells.values["a"] = 10
    assert await state == 2  # nobody has told us, and the lease still runs
    assert shown.is_consistent
    clock.now_s = lease.until_s + 1
    assert not shown.is_consistent
    assert await state == 20
    await state.close()


async def test_a_state_that_reads_another_state_is_no_exception(graph: Graph, cells: Cells) -> None:
    await cells.cell("a")
    clock, lease = rent(graph, cells.cell("a"))
    inner = ComputedState(lambda: cells.cell("a"))

    async def ten_times() -> int:
        return 10 * await inner

    outer = ComputedState(ten_times)
    assert await outer == await outer == 10
    cells.values["a"] = 2
    clock.now_s = lease.until_s + 1
    assert await outer == 20
    await outer.close()
    await inner.close()


async def test_who_awaits_a_state_after_the_lease_does_not_join_an_update_that_began_before(
    graph: Graph, cells: Cells
) -> None:
    await cells.cell("a")
    clock, lease = rent(graph, cells.cell("a"))
    state = ComputedState(lambda: cells.double("a"))
    gate = cells.gate("2*a")
    early = asyncio.ensure_future(_value(state))
    await gate.entered.wait()
    joining = asyncio.ensure_future(_value(state))
    await asyncio.sleep(0)
    cells.values["a"] = 10
    clock.now_s = lease.until_s + 1
    late = asyncio.ensure_future(_value(state))
    await asyncio.sleep(0)
    gate.open()
    assert (await early, await joining, await late) == (2, 2, 20)
    await state.close()


async def test_a_state_over_a_graph_without_leases_asks_nobody(cells: Cells) -> None:
    state = ComputedState(lambda: cells.double("a"))
    assert await state == await state == 2
    assert state.computed.table.registry.fence_s == math.inf
    await state.close()


async def _value(state: ComputedState[int]) -> int:
    return await state
