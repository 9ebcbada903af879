"""The ring of events: bounded, numbered, and safe whatever keys do when they are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.graph import ComputeFunction, Graph, GraphHosting
from fusion_cluster.graph.core.pure.history import COMPUTED, OUT_OF_DATE
from fusion_cluster.graph.why.cause import UNKNOWN
from fusion_cluster.wire.codec import EncodedArguments


async def body(self: object, key: object) -> int:
    return 1


def function_in(graph: Graph, name: str = "method") -> ComputeFunction:
    method = Method("Service", name, "compute", Signature(body, f"Service.{name}"))
    function = ComputeFunction(method, body=body, hosting=GraphHosting(graph), graph=graph)
    graph.add(function)
    return function


def numbers(events: list[Any]) -> list[int]:
    return [event[0] for event in events]


@pytest.fixture
def graph() -> Graph:
    return Graph(history=10)


def test_events_are_found_by_number_until_they_are_forgotten(graph: Graph) -> None:
    function, history = function_in(graph), graph.registry.history
    for key in range(25):
        function.assign_value((key,), key)
    assert numbers(history.events()) == list(range(15, 25))
    assert [history.event(number) for number in range(15, 25)] == history.events()
    for number in (-1, 0, 14, 25, 10**12):
        assert history.event(number) is None
    event: Any = history.event(24)
    assert event[1:4] == (COMPUTED, function, function.lookup((24,)).table_key)


def test_events_of_a_key_are_those_of_its_function(graph: Graph) -> None:
    one, other, history = function_in(graph, "one"), function_in(graph, "other"), graph.registry.history
    for function in (one, other, one):
        function.assign_value((1,), "a")
    key = one.lookup((1,)).table_key
    events: list[Any] = history.events_of(one, key)
    assert [event[1] for event in events] == [COMPUTED, OUT_OF_DATE, COMPUTED]
    assert numbers(history.events_of(other, key)) == [1]
    assert history.events_of(one, "no such key") == []


def test_the_event_of_an_invalidation_is_found_by_its_node(graph: Graph) -> None:
    function, history = function_in(graph), graph.registry.history
    first = function.assign_value((1,), "a")
    assert history.invalidation_of(first) is None
    first.invalidate()
    found = history.invalidation_of(first)
    assert found is not None
    assert found[0] == history.events()[-1][0]
    assert str(found[1]).startswith("a call of invalidate() at tests/unit/graph/test_history.py:")


@pytest.mark.parametrize("capacity", [0, 1, 2, 17, 100])
def test_a_history_is_as_long_as_it_is_told_to_be(capacity: int) -> None:
    graph = Graph(history=capacity)
    function, history = function_in(graph), graph.registry.history
    for key in range(60):
        function.assign_value((key,), key)
    assert numbers(history.events()) == list(range(max(60 - capacity, 0), 60))
    history.clear()
    assert history.events() == []
    assert history.event(59) is None
    function.assign_value((100,), 0)
    assert numbers(history.events()) == ([60] if capacity else [])


class Meddler(EncodedArguments):
    """A key that does something whenever it is compared."""

    meddle: Callable[[], object] | None = None
    number: int

    def __new__(cls, number: int) -> Meddler:
        self = super().__new__(cls, (number,), b"")
        assert isinstance(self, Meddler)
        self.number = number
        return self

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        meddle, Meddler.meddle = Meddler.meddle, None
        if meddle is not None:
            meddle()
        return isinstance(other, Meddler) and other.number == self.number


def noted(function: ComputeFunction, count: int) -> None:
    for number in range(count):
        function.assign_value((number + 1000,), number)


@pytest.mark.parametrize("events_meanwhile", [0, 1, 5, 100])
def test_keys_that_change_the_history_while_it_is_searched_do_no_harm(graph: Graph, events_meanwhile: int) -> None:
    function, other, history = function_in(graph), function_in(graph, "other"), graph.registry.history
    for number in range(8):
        function.assign_value(Meddler(number), number)
    Meddler.meddle = lambda: noted(other, events_meanwhile)
    found: list[Any] = history.events_of(function, function.table_key(Meddler(3)))
    assert Meddler.meddle is None, "keys were compared"
    assert [event[2:4] for event in found] == [(function, function.table_key(Meddler(3)))] * len(found)
    assert len(found) == 1 or events_meanwhile > 2, "it is displaced only by as many events as there is room for"


def test_a_key_that_clears_the_history_while_it_is_searched_does_no_harm(graph: Graph) -> None:
    function, history = function_in(graph), graph.registry.history
    for number in range(8):
        function.assign_value(Meddler(number), number)
    Meddler.meddle = history.clear
    assert len(history.events_of(function, function.table_key(Meddler(3)))) <= 1
    assert Meddler.meddle is None
    assert history.events() == []


def test_a_comparison_that_fails_is_the_callers_error(graph: Graph) -> None:
    function, history = function_in(graph), graph.registry.history
    function.assign_value(Meddler(1), 1)

    def fail() -> None:
        raise RuntimeError("not comparable")

    Meddler.meddle = fail
    with pytest.raises(RuntimeError, match="not comparable"):
        history.events_of(function, function.table_key(Meddler(1)))


def test_what_happened_in_another_graph_is_told_by_what_stands_for_that(graph: Graph) -> None:
    other = Graph(history=10)
    assert graph.registry.history.home is not other.registry.history.home
    node = function_in(graph).assign_value((1,), 1)
    graph.registry.history.record(OUT_OF_DATE, node, 7, UNKNOWN, other.registry.history.home)
    graph.registry.history.record(OUT_OF_DATE, node, 7, UNKNOWN)
    homes = [event[8] for event in graph.registry.history.events()]
    assert homes == [None, other.registry.history.home, None]
