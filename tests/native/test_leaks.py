"""Nodes, edges, keys and values leave nothing behind, whichever way they go. On both paths of the graph."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather, isolated
from fusion_cluster.graph.core.hot_path import IS_NATIVE
from tests.native.remains import MOST_BLOCKS, remains_of
from tests.thorough import times

ROUNDS = 20_000 if IS_NATIVE else 5_000
FEWER_ROUNDS = 2_000
"""Where a round does much. A block that most rounds leave behind is seen all the same: see `MOST_BLOCKS`."""

MAX_NODES = 64
HISTORY = 20
BLOCKS_PER_NODE = 8
"""The node itself, its key, what hangs on it."""


class Value:
    """What the numbers' values are: one object, whose references can be counted."""


class Numbers(ComputeService):
    """Numbers and what is made of them."""

    def __init__(self, graph: Graph) -> None:
        self.value = Value()
        self.gate: asyncio.Event | None = None
        attach(self, GraphHosting(graph))

    @compute_method
    async def get(self, number: int) -> Value:
        if self.gate is not None:
            await self.gate.wait()
        return self.value

    @compute_method
    async def text(self, name: str, *, scale: float = 1.0) -> Value:
        return self.value

    @compute_method
    async def anything(self, first: object, second: object = None) -> Value:
        return self.value

    @compute_method
    async def above(self, number: int) -> Value:
        await self.get(number)
        await gather(self.get(number), self.get(number + 1), self.text("x" * (number % 9)))
        with isolated():
            await self.anything(number)
        return await self.get(number + 1)

    @compute_method
    async def top(self, number: int) -> Value:
        await self.above(number)
        return await self.above(number + 1)

    @compute_method
    async def failing(self, number: int) -> Value:
        await self.get(number)
        raise ValueError(number)

    @compute_method
    async def hopeful(self, number: int) -> Value:
        try:
            return await self.failing(number)
        except ValueError:
            return self.value

    @compute_method
    async def link(self, length: int) -> Value:
        """A chain, when its links are computed one after another from 0."""
        return await self.link(length - 1) if length else self.value


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    graph = Graph(max_nodes=MAX_NODES, history=HISTORY)
    yield graph
    graph.validate()
    await graph.close()


@pytest.fixture
def numbers(graph: Graph) -> Numbers:
    return Numbers(graph)


@pytest.fixture
def silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_nodes_that_are_evicted(graph: Graph, numbers: Numbers) -> None:
    async def one_round(number: int) -> None:
        await numbers.get(number)

    remains = await remains_of(graph, one_round, ROUNDS)
    assert remains.blocks < MOST_BLOCKS
    assert graph.stats.evictions > ROUNDS / 2


async def test_nodes_that_are_invalidated(graph: Graph, numbers: Numbers) -> None:
    async def one_round(number: int) -> None:
        await numbers.get(number)
        await numbers.text(str(number), scale=number)
        numbers.get.invalidate(number)
        numbers.text(str(number), scale=number).invalidate()

    remains = await remains_of(graph, one_round, ROUNDS)
    assert remains.blocks < MOST_BLOCKS
    assert graph.stats.evictions == 0


async def test_nodes_with_dependencies(graph: Graph, numbers: Numbers) -> None:
    async def one_round(number: int) -> None:
        await numbers.top(number)
        if number % 2:
            numbers.get.invalidate(number + 1)

    remains = await remains_of(graph, one_round, FEWER_ROUNDS)
    assert remains.blocks < MOST_BLOCKS


async def test_hits(graph: Graph, numbers: Numbers) -> None:
    await numbers.above(1)

    async def one_round(number: int) -> None:
        await numbers.get(1)
        await numbers.get(number=1)
        await numbers.text("x")
        await numbers.text("x", scale=1)
        await numbers.anything(1, second=2.5)
        await numbers.anything(True)
        await numbers.above(1)
        assert numbers.get.peek(1) is numbers.get(1)
        assert numbers.get(1).value is numbers.value

    remains = await remains_of(graph, one_round, ROUNDS, {"value": numbers.value})
    assert remains.blocks < MOST_BLOCKS
    assert not remains.references


@pytest.mark.usefixtures("silence")
async def test_nodes_with_observers(graph: Graph, numbers: Numbers) -> None:
    told = 0

    def count(_computed: object) -> None:
        nonlocal told
        told += 1

    def fail(_computed: object) -> None:
        raise ValueError

    def invalidate_another(_computed: object) -> None:
        numbers.text.invalidate("another")

    async def one_round(number: int) -> None:
        computed, another = numbers.get(number), numbers.text("another")
        await gather(computed, another)
        for observer in (count, fail, invalidate_another, count):
            computed.on_invalidated(observer)
        another.on_invalidated(fail)
        another.remove_observer(fail)
        another.on_invalidated(lambda _computed: another.version)  # a cycle: the node, its observer, the node
        if number % 3 == 0:
            computed.remove_observer(count)
        if number % 2:
            computed.invalidate()
            computed.on_invalidated(count)

    remains = await remains_of(graph, one_round, FEWER_ROUNDS, {"observer": fail, "value": numbers.value})
    assert remains.blocks < MOST_BLOCKS
    assert not remains.references
    assert told > FEWER_ROUNDS / 2


async def test_nodes_that_end_with_an_error(graph: Graph, numbers: Numbers) -> None:
    async def one_round(number: int) -> None:
        computed = numbers.failing(number)
        for _ in range(2):
            with contextlib.suppress(ValueError):
                await computed
        assert isinstance(computed.error, ValueError)
        with contextlib.suppress(ValueError):
            _ = computed.value
        await numbers.hopeful(number)
        if number % 2:
            numbers.get.invalidate(number)

    remains = await remains_of(graph, one_round, FEWER_ROUNDS)
    assert remains.blocks < MOST_BLOCKS


async def test_computations_that_are_cancelled(graph: Graph, numbers: Numbers) -> None:
    async def read(computed: Computed[Value]) -> Value:
        return await computed

    async def one_round(number: int) -> None:
        numbers.gate = asyncio.Event()
        tasks = [asyncio.create_task(read(numbers.above(number))) for _ in range(3)]
        for _ in range(number % 5):
            await asyncio.sleep(0)
        for task in tasks[number % 2 :]:
            task.cancel()
        if number % 3 == 0:
            numbers.get.invalidate(number)
        numbers.gate.set()
        numbers.gate = None
        await asyncio.gather(*tasks, return_exceptions=True)

    remains = await remains_of(graph, one_round, FEWER_ROUNDS // 2)
    assert remains.blocks < MOST_BLOCKS


async def test_calls_that_are_refused(graph: Graph, numbers: Numbers) -> None:
    refused = 0

    async def one_round(number: int) -> None:
        nonlocal refused
        for args, kwargs in (((), {}), ((1, 2), {}), ((1,), {"number": 1}), (([number],), {}), ((), {"other": number})):
            try:
                numbers.get(*args, **kwargs)
            except InvalidArgument:
                refused += 1

    remains = await remains_of(graph, one_round, FEWER_ROUNDS)
    assert remains.blocks < MOST_BLOCKS
    assert refused >= 5 * FEWER_ROUNDS


async def test_nodes_that_are_never_awaited(graph: Graph, numbers: Numbers) -> None:
    async def one_round(number: int) -> None:
        numbers.get(number)
        kept = numbers.text(str(number))
        kept.invalidate()

    remains = await remains_of(graph, one_round, ROUNDS)
    assert remains.blocks < MOST_BLOCKS


async def test_graphs_that_are_dropped_without_a_word(graph: Graph) -> None:
    async def one_round(number: int) -> None:
        dropped = Graph(max_nodes=MAX_NODES, history=HISTORY)
        numbers = Numbers(dropped)
        await numbers.top(number)
        observed = numbers.get(number)
        observed.on_invalidated(lambda _computed: numbers.value)
        numbers.get(-number)  # never awaited

    remains = await remains_of(graph, one_round, FEWER_ROUNDS // 4)
    assert remains.blocks < MOST_BLOCKS


async def test_an_invalidated_node_that_is_held_holds_nothing_but_its_output(graph: Graph, numbers: Numbers) -> None:
    async def one_round(number: int) -> None:
        held.append(numbers.top(number))
        await held[-1]
        numbers.get.invalidate(number)
        numbers.get.invalidate(number + 1)
        numbers.get.invalidate(number + 2)

    held: list[Computed[Value]] = []
    remains = await remains_of(graph, one_round, FEWER_ROUNDS // 2)
    assert all(computed.value is numbers.value for computed in held)
    assert remains.blocks / (FEWER_ROUNDS // 2) < BLOCKS_PER_NODE


@pytest.mark.parametrize(("length", "is_closed"), [(9_000, False), (200_000, True)])
async def test_a_long_chain_is_dropped_without_recursion(length: int, is_closed: bool) -> None:
    graph = Graph()
    numbers = Numbers(graph)
    for number in range(length):
        await numbers.link(number)
    assert graph.stats.nodes == length
    value = weakref.ref(numbers.value)
    await asyncio.sleep(0)  # the last computation's task ends
    if is_closed:  # a large one is not known to the garbage collector
        await graph.close()
    del graph, numbers
    gc.collect()
    assert value() is None


async def test_no_memory_is_traced_to_a_file_of_the_graph(graph: Graph, numbers: Numbers) -> None:
    async def live(start: int, count: int) -> int:
        for number in range(start, start + count):
            await numbers.top(number)
            numbers.get.invalidate(number)
        graph.invalidate_all()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    await live(0, 200)
    tracemalloc.start()
    try:
        before = await live(200, 100)
        after = await live(300, 1_000)
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


async def test_what_a_round_leaves_is_seen(graph: Graph) -> None:
    left: list[object] = []
    kept = object()

    async def one_round(number: int) -> None:
        left.append((number, kept))

    remains = await remains_of(graph, one_round, MOST_BLOCKS, {"kept": kept})
    assert remains.blocks >= MOST_BLOCKS
    assert remains.references == {"kept": MOST_BLOCKS}


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_many_rounds_end_where_they_began(graph: Graph, numbers: Numbers) -> None:
    rounds = times(200_000, 1_000_000) if IS_NATIVE else 100_000
    number, name = 10**12, "a name that is not interned: " + str(graph)
    watched = {
        "int argument": number,
        "str argument": name,
        "value": numbers.value,
        "service": numbers,
        "graph": graph,
        "function": numbers.get.function,
        "bound method": numbers.get,
        "class of nodes": type(numbers.get(number)),
        "class of bound methods": type(numbers.get),
    }
    singletons: dict[str, object] = {"None": None, "True": True, "1": 1, "()": (), "''": ""}
    process = psutil.Process()

    async def one_round(index: int) -> None:
        await numbers.get(index)  # evicted at some time
        await numbers.get(number)
        assert await numbers.get(number) is numbers.value
        numbers.get.invalidate(number)
        if index % 8 == 0:
            await numbers.text(name, scale=2.0)
            assert await numbers.text(name, scale=2.0) is numbers.value
            numbers.text.invalidate(name, scale=2.0)

    await remains_of(graph, one_round, 0)
    resident = process.memory_info().rss
    remains = await remains_of(graph, one_round, rounds, {**watched, **singletons})
    assert remains.blocks < MOST_BLOCKS
    assert not {label: more for label, more in remains.references.items() if label in watched}
    assert all(abs(more) < MOST_BLOCKS for more in remains.references.values()), remains.references
    assert process.memory_info().rss - resident < 16 * rounds, "memory that Python's allocator does not know of"
