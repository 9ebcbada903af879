"""What the garbage collector and keys of users may do while the graph is in the midst of something."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method
from fusion_cluster.graph.computed import Computed
from fusion_cluster.graph.core.hot_path import (
    IS_NATIVE,
    History,
    Registry,
    Table,
    dependencies_of,
    dependents_of,
    link,
    mark,
)

LEAVES = 20
PLACES = 12
"""At how many allocations in a row the collection is made to come."""


class Sheet(ComputeService):
    @compute_method
    async def root(self, number: int) -> int:
        return number

    @compute_method
    async def leaf(self, number: int) -> int:
        return await self.root(0) + number


class Reader(ComputeService):
    sheet: Sheet

    @compute_method
    async def read(self, number: int) -> int:
        return await self.sheet.root(0) + number


class Parting:
    """Garbage that does something when the collector finds it."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do
        self.itself = self

    def __del__(self) -> None:
        self.do()


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.enable()


def in_a_collection(do: Callable[[], object], allocations: int) -> None:
    """Call `do` such that the collector comes at one of its first allocations of a container."""
    kept = [[[] for _ in range(300)], [tuple(range(9)) for _ in range(3000)]]  # the interpreter's free lists are empty
    gc.set_threshold(gc.get_count()[0] + allocations, 1000, 1000)
    kept.append([[] for _ in range(300)])
    gc.set_threshold(gc.get_count()[0] + allocations, 1000, 1000)
    gc.enable()
    do()
    gc.disable()
    kept.clear()


@pytest.mark.parametrize("place", range(PLACES))
async def test_a_finalizer_may_invalidate_dependents_while_their_dependency_is_invalidated(place: int) -> None:
    sheet, graph = Sheet(), Graph()
    attach(sheet, GraphHosting(graph))
    for number in range(LEAVES):
        await sheet.leaf(number)
    sheet.leaf(0).on_invalidated(lambda _computed: None)
    root = sheet.root(0)
    gc.collect()
    gc.disable()
    Parting(lambda: [sheet.leaf.invalidate(number) for number in range(LEAVES)])
    in_a_collection(lambda: graph.invalidate(root), place)
    gc.collect()
    graph.validate()


@pytest.mark.parametrize("place", range(PLACES))
async def test_a_graph_that_nobody_holds_may_go_while_what_it_depends_on_is_invalidated(place: int) -> None:
    sheet, graph = Sheet(), Graph()
    attach(sheet, GraphHosting(graph))
    await sheet.leaf(0)
    sheet.leaf(0).on_invalidated(lambda _computed: None)
    root = sheet.root(0)
    gc.collect()
    gc.disable()
    reader = Reader()
    reader.sheet = sheet
    attach(reader, GraphHosting(Graph()))
    for number in range(LEAVES):
        await reader.read(number)
    del reader
    in_a_collection(lambda: graph.invalidate(root), place)
    gc.collect()
    graph.validate()


@pytest.mark.parametrize("place", range(PLACES))
async def test_a_finalizer_may_invalidate_while_dependents_are_listed(place: int) -> None:
    sheet, graph = Sheet(), Graph()
    attach(sheet, GraphHosting(graph))
    for number in range(LEAVES):
        await sheet.leaf(number)
    root = sheet.root(0)
    gc.collect()
    gc.disable()
    Parting(lambda: graph.invalidate(root))
    listed: list[object] = []
    in_a_collection(lambda: listed.extend(dependents_of(root)), place)
    assert len(listed) in (0, LEAVES)


def _table(registry: Registry, function: object) -> Table:
    return Table(registry, function, Computed, is_keyed_by_argument=True, is_delayed=False)


@pytest.mark.parametrize("place", range(PLACES))
def test_a_history_outlives_its_registry(place: int) -> None:
    table = _table(Registry(100, 16, 1), object())
    node = table.lookup(1)
    gc.collect()
    gc.disable()
    registry = Registry(100, 16, 1)
    history: History = registry.history
    for _ in range(10):
        history.record(0, node, -1, None)
    parting = Parting(lambda: None)
    parting.do = registry.on_fence = functools.partial(
        lambda *_: None, registry, parting
    )  # only the collector frees it
    del parting
    del registry
    in_a_collection(history.events, place)
    gc.collect()
    assert [event[0] for event in history.events()] == list(range(10))


@pytest.mark.skipif(not IS_NATIVE, reason="in Python, what is used is not searched by its address")
def test_a_dependency_is_found_again_after_a_graph_that_was_read_has_gone() -> None:
    # What a computation has used is searched in a set of addresses, which others may get.
    registry = Registry(100_000, 0, 1)
    dependent = _table(registry, object()).lookup("dependent")

    class Function:
        table: Table

    def read(count: int) -> set[int]:
        function = Function()
        function.table = table = _table(Registry(100_000, 0, 1), function)
        nodes = []
        for number in range(40):
            node = table.lookup(number)
            table.registry.succeed(node, None)
            nodes.append(node)
            for other in range(20):
                link(table.lookup(("reader", other)), node)
        for node in nodes[:count]:
            link(dependent, node)
        return {id(node) for node in nodes[:count]}

    addresses = read(40)
    gc.collect()
    read(1)
    gc.collect()
    assert dependencies_of(dependent) == []
    table = _table(registry, object())
    nodes = [table.lookup(number) for number in range(4000)]
    for node in nodes:
        registry.succeed(node, None)
    anew = [node for node in nodes if id(node) in addresses]
    for node in [node for node in nodes if id(node) not in addresses][:30]:
        link(dependent, node)
    for node in anew:
        for other in range(20):
            link(table.lookup(("reader", other)), node)
        assert link(dependent, node)


async def test_a_key_may_take_the_service_apart_while_it_is_looked_up() -> None:
    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            service.__dict__.clear()
            graph.functions.clear()
            gc.collect()
            return 1

    class Keyed(ComputeService):
        @compute_method
        async def get(self, key: str) -> str:
            return key

    service, graph = Keyed(), Graph()
    attach(service, GraphHosting(graph))
    await service.get("a")
    service.get(Key("b"))


def test_a_value_that_is_replaced_by_paging_in_may_invalidate_its_node() -> None:
    registry = Registry(100, 16, 1)
    node = _table(registry, object()).lookup(1)
    registry.succeed(node, None)

    class Value:
        def __del__(self) -> None:
            mark(node, None)

    node._value = Value()
    registry.page_in(node, 1)
    assert registry.queues() == ([], [], [])
