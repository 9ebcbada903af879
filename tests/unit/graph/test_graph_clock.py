"""The clock of a graph's runtime: hits compare the fence with it, and events are dated by it, in C and in Python."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.runtime import SYSTEM, Clock, Runtime
from fusion_cluster.state import ComputedState
from tests.rented_replicas import RentedReplicas
from tests.unit.graph.cells import Cells


class Hands:
    """A clock that a test sets, and that counts how often it is read."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now_s


@pytest.fixture(params=[0.0, -5.0, 1e6])
def monotonic(request: pytest.FixtureRequest) -> Hands:
    return Hands(request.param)


@pytest.fixture
def wall() -> Hands:
    return Hands(1_900_000_000.0)


@pytest.fixture
def graph(monotonic: Hands, wall: Hands) -> Graph:
    return Graph(runtime=Runtime(Clock(monotonic, wall)))


@pytest.fixture
def cells(graph: Graph) -> Cells:
    cells = Cells(a=1, b=2)
    attach(cells, GraphHosting(graph))
    return cells


def rent(graph: Graph, cells: Cells, monotonic: Hands, for_s: float) -> RentedReplicas:
    lease = RentedReplicas(monotonic, monotonic.now_s + for_s)  # type: ignore[arg-type]
    graph.fence.add(lease)
    lease.add(cells.cell("a"), graph)
    return lease


async def test_where_no_lease_is_in_force_a_hit_reads_no_clock(graph: Graph, cells: Cells, monotonic: Hands) -> None:
    await cells.cell("a")
    monotonic.reads = 0
    for _ in range(10):
        await cells.cell("a")
    assert monotonic.reads == 0
    await graph.close()


async def test_a_hit_is_served_until_the_fence_by_the_graphs_own_clock(
    graph: Graph, cells: Cells, monotonic: Hands
) -> None:
    await cells.cell("a")
    lease = rent(graph, cells, monotonic, 3.0)
    cells.values["a"] = 10
    monotonic.now_s += 2.999
    assert await cells.cell("a") == 1
    assert lease.asked_at_s == []
    monotonic.now_s += 0.002
    assert await cells.cell("a") == 10
    assert len(lease.asked_at_s) == 1
    await graph.close()


async def test_a_state_of_another_clock_never_shows_what_has_expired(
    graph: Graph, cells: Cells, monotonic: Hands
) -> None:
    await cells.cell("a")
    lease = rent(graph, cells, monotonic, 3.0)
    state = ComputedState(lambda: cells.double("a"))
    assert await state == 2
    shown = state.computed
    assert shown is not None
    cells.values["a"] = 10
    assert await state == 2
    monotonic.now_s = lease.until_s + 1
    assert not shown.is_consistent
    assert await state == 20
    await state.close()
    await graph.close()


async def test_what_is_closed_to_everybody_stays_so_at_any_time(graph: Graph, cells: Cells, monotonic: Hands) -> None:
    class Refused(Exception):
        pass

    def refuse() -> None:
        raise Refused

    await cells.cell("a")
    graph.fence.refuse(refuse)
    for now_s in (-1e12, -1.0, 0.0, 1e12):
        monotonic.now_s = now_s
        with pytest.raises(Refused):
            await cells.cell("a")


async def test_events_are_dated_by_the_wall(graph: Graph, cells: Cells, wall: Hands) -> None:
    node = cells.cell("a")
    await node
    wall.now_s += 60
    node.invalidate()
    assert [entry.time_s for entry in graph.story(node.key)] == [1_900_000_000.0, 1_900_000_060.0]
    await graph.close()


@pytest.mark.parametrize("moment", ["computed", "invalidated"])
async def test_a_wall_that_fails_changes_nothing_but_the_date(
    moment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported (by the hook for what cannot be raised, or in the log), and the system's clock stands for it."""
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)

    def fail() -> float:
        raise ValueError("no time")

    hands: Callable[[], float] = SYSTEM.clock.wall

    graph = Graph(runtime=Runtime(Clock(wall=lambda: hands())))
    cells = Cells(a=1)
    attach(cells, GraphHosting(graph))
    if moment == "computed":
        hands = fail
    with caplog.at_level(logging.ERROR):
        assert await cells.double("a") == 2
        hands = fail
        cells.values["a"] = 5
        cells.cell("a").invalidate()
        assert await cells.double("a") == 10
    assert told or caplog.records
    graph.validate()
    hands = SYSTEM.clock.wall
    await graph.close()
