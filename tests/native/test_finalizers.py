"""What runs whenever the garbage collector likes, and uses the graph or its loop: in the middle of anything."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method

READS = 200


class Parting:
    """A value that reads another key when it goes."""

    def __init__(self, numbers: Numbers, number: int) -> None:
        self.numbers = numbers
        self.number = number

    def __del__(self) -> None:
        if self.numbers.is_open:
            self.numbers.parting(-self.number)


class Resigning:
    """A value that invalidates its own key when it goes."""

    def __init__(self, numbers: Numbers, number: int) -> None:
        self.numbers = numbers
        self.number = number

    def __del__(self) -> None:
        if self.numbers.is_open:
            self.numbers.resigning.invalidate(self.number)


class Numbers(ComputeService):
    is_open = True

    @compute_method
    async def get(self, number: int) -> int:
        return number

    @compute_method
    async def parting(self, number: int) -> Parting:
        return Parting(self, number)

    @compute_method
    async def resigning(self, number: int) -> Resigning:
        return Resigning(self, number)


@pytest.fixture
def eager_collection() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*threshold)
    gc.callbacks.clear()


@pytest.mark.usefixtures("eager_collection")
async def test_what_a_collection_asks_of_the_loop_is_done_whenever_it_comes() -> None:
    loop = asyncio.get_running_loop()
    asked, done = 0, 0

    def do() -> None:
        nonlocal done
        done += 1

    def on_collection(phase: str, _info: dict[str, Any]) -> None:
        """Stands for what a collection finalizes: a coroutine whose `finally` sets an event, and the like."""
        nonlocal asked
        if phase == "stop":
            asked += 1
            loop.call_soon(do)

    numbers = Numbers()
    attach(numbers, GraphHosting(Graph()))
    gc.callbacks.append(on_collection)
    for number in range(READS):
        async with asyncio.timeout(5):
            await numbers.get(number)
    gc.callbacks.clear()
    await asyncio.sleep(0)
    assert asked > READS
    assert done == asked


async def test_the_bound_holds_while_values_read_other_keys_as_they_go() -> None:
    graph = Graph(max_nodes=1)
    numbers = Numbers()
    attach(numbers, GraphHosting(graph))
    for number in range(1, 10):
        await numbers.parting(number)
        graph.validate()
    numbers.is_open = False


async def test_a_value_that_invalidates_its_own_key_may_be_paged_out(caplog: pytest.LogCaptureFixture) -> None:
    graph = Graph(max_bytes=10_000, size_of=lambda _value: 1_000)
    numbers = Numbers()
    attach(numbers, GraphHosting(graph))
    told: list[object] = []
    async with asyncio.timeout(5):
        for number in range(20):
            computed = numbers.resigning(number)
            computed.on_invalidated(told.append)  # what is observed is paged out, not evicted
            await computed
            await asyncio.sleep(0)  # what has been read may be paged out from the next turn on
    gc.collect()
    assert not caplog.records, "a computation's task has failed"
    assert told
    assert not graph.stats.evictions
    graph.validate()
    numbers.is_open = False
