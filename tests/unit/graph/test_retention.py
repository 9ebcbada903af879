"""A.12 and A.13: the bound is hard, SIEVE chooses, what is in use goes last, delays expire."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


class Numbers(ComputeService):
    def __init__(self) -> None:
        self.log: list[int] = []

    @compute_method
    async def get(self, number: int) -> int:
        self.log.append(number)
        return number

    @compute_method
    async def plus_one(self, number: int) -> int:
        return 1 + await self.get(number)

    @compute_method(min_cache_duration=60)
    async def kept(self, number: int) -> int:
        return number

    @compute_method(auto_invalidation_delay=5)
    async def fleeting(self, number: int) -> int:
        self.log.append(number)
        return number

    @compute_method(auto_invalidation_delay=5, min_cache_duration=60)
    async def kept_but_fleeting(self, number: int) -> int:
        return number

    def cached(self, *candidates: int) -> list[int]:
        return [number for number in candidates if self.get.peek(number) is not None]


@pytest.fixture
def graph() -> Graph:
    return Graph(max_nodes=4)


@pytest.fixture
async def numbers(graph: Graph) -> Any:
    numbers = Numbers()
    attach(numbers, GraphHosting(graph))
    yield numbers
    graph.validate()
    await graph.close()


async def test_the_bound_in_nodes_is_never_exceeded(numbers: Numbers, graph: Graph) -> None:
    for number in range(100):
        numbers.get(number)
        assert graph.stats.nodes <= 4
        await numbers.plus_one(number)
        assert graph.stats.nodes <= 4
    await gather(*(numbers.plus_one(number) for number in range(50)))
    assert graph.stats.nodes == 4
    assert graph.stats.evictions > 0


async def test_the_oldest_that_was_not_hit_is_evicted(numbers: Numbers) -> None:
    for number in range(4):
        await numbers.get(number)
    await numbers.get(0)
    await numbers.get(4)
    assert numbers.cached(*range(5)) == [0, 2, 3, 4]
    await numbers.get(5)
    assert numbers.cached(*range(6)) == [0, 3, 4, 5]
    assert numbers.log == [0, 1, 2, 3, 4, 5]


async def test_one_pass_over_many_keys_does_not_drive_out_what_is_hit(numbers: Numbers) -> None:
    for number in range(1000, 1200):
        await numbers.get(1)
        await numbers.get(2)
        await numbers.get(number)
    assert numbers.log.count(1) == numbers.log.count(2) == 1


class Sieve:
    """The algorithm as its authors write it: a queue with the newest at the left, a visited bit, a hand."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.queue: deque[int] = deque()
        self.visited: dict[int, bool] = {}
        self.hand: int | None = None

    def read(self, key: int) -> None:
        if key in self.visited:
            self.visited[key] = True
            return
        if len(self.queue) == self.size:
            self._evict()
        self.queue.appendleft(key)
        self.visited[key] = False

    def _evict(self) -> None:
        position = self.queue.index(self.hand) if self.hand is not None else len(self.queue) - 1
        while self.visited[self.queue[position]]:
            self.visited[self.queue[position]] = False
            position = position - 1 if position else len(self.queue) - 1
        victim = self.queue[position]
        self.hand = self.queue[position - 1] if position else None
        self.queue.remove(victim)
        del self.visited[victim]


async def test_eviction_follows_sieve(numbers: Numbers) -> None:
    model = Sieve(4)
    for step in range(2000):
        key = (step * step // 7 + step // 3) % 9
        model.read(key)
        await numbers.get(key)
        assert numbers.cached(*range(9)) == sorted(model.queue)


async def test_nodes_with_dependents_are_passed_over_first(numbers: Numbers) -> None:
    await numbers.plus_one(1)
    computed = numbers.plus_one(1)
    for number in range(10, 20):
        await computed  # hit, or it would be the oldest that was not
        numbers.plus_one(1)
        await numbers.get(number)
    assert numbers.cached(1) == [1]
    assert computed.is_consistent


async def test_nodes_with_observers_are_passed_over_first(numbers: Numbers) -> None:
    computed = numbers.get(1)
    await computed
    computed.on_invalidated(print)
    for number in range(10, 20):
        await numbers.get(number)
    assert computed.is_consistent
    computed.remove_observer(print)
    for number in range(20, 30):
        await numbers.get(number)
    assert not computed.is_consistent


async def test_a_node_that_is_protected_no_more_can_be_evicted(numbers: Numbers) -> None:
    await numbers.plus_one(1)
    for number in range(10, 13):
        numbers.plus_one(1)
        await numbers.get(number)
    assert numbers.cached(1) == [1]
    numbers.plus_one(1).invalidate()
    for number in range(20, 26):
        await numbers.get(number)
    assert numbers.cached(1) == []


async def test_if_all_are_in_use_a_victim_invalidates_its_dependents(numbers: Numbers, graph: Graph) -> None:
    observed = [numbers.plus_one(1), numbers.plus_one(2)]
    for computed in observed:
        await computed
        computed.on_invalidated(lambda _: None)
    await numbers.get(3)
    assert graph.stats.nodes <= 4
    assert [computed.is_consistent for computed in observed].count(False) == 1
    await numbers.get(4)
    await numbers.get(5)
    assert graph.stats.nodes <= 4


async def test_one_unprotected_node_among_protected_ones_is_found(numbers: Numbers) -> None:
    computeds = [numbers.get(number) for number in range(4)]
    for computed in computeds:
        await computed
    for index in (0, 1, 3):
        computeds[index].on_invalidated(lambda _: None)
    await numbers.get(9)
    assert numbers.cached(0, 1, 2, 3, 9) == [0, 1, 3, 9]


async def test_what_is_being_computed_is_passed_over_first(graph: Graph) -> None:
    cells = Cells(a=1, b=2, c=3, d=4, e=5)
    attach(cells, GraphHosting(graph))
    gate = cells.gate("a")
    task = asyncio.create_task(value_of(cells.cell("a")))
    await gate.entered.wait()
    for name in "bcde":
        await cells.cell(name)
    gate.open()
    await task
    assert cells.cell.peek("a") is not None
    graph.validate()
    await graph.close()


async def test_more_computations_than_the_bound_all_give_their_values(graph: Graph) -> None:
    cells = Cells(**{f"c{index}": index for index in range(20)})
    attach(cells, GraphHosting(graph))
    names = tuple(cells.values)
    assert await cells.total(names) == sum(range(20))
    assert graph.stats.nodes <= 4
    graph.validate()
    await graph.close()


async def test_an_observer_of_a_victim_may_call_the_key_that_needs_the_room(numbers: Numbers, graph: Graph) -> None:
    for number in range(4):
        await numbers.get(number)
    called: list[Computed[int]] = []
    for number in range(4):
        numbers.get(number).on_invalidated(lambda _: called.append(numbers.get(9)))
    assert await numbers.get(9) == 9
    assert called
    assert graph.stats.nodes <= 4


async def test_values_that_others_depend_on_are_let_go_of_before_edges() -> None:
    class Pages(ComputeService):
        @compute_method
        async def text(self, page: int) -> bytes:
            return bytes(1000)

        @compute_method
        async def length(self, page: int) -> int:
            return len(await self.text(page))

    graph, pages = Graph(max_bytes=5000), Pages()
    attach(pages, GraphHosting(graph))
    lengths = []
    for page in range(4):
        lengths.append(pages.length(page))
        lengths[page].on_invalidated(lambda _: None)
        await lengths[page]
    assert [length.is_consistent for length in lengths] == [True] * 4
    assert [pages.text.peek(page) is None for page in range(4)] == [True, True, True, False]
    graph.validate()
    assert await pages.text(0) == bytes(1000)
    assert [length.is_consistent for length in lengths] == [True] * 4
    await graph.close()


def test_min_cache_duration_retains_and_then_no_longer() -> None:
    async def main() -> None:
        graph, numbers = Graph(max_nodes=4), Numbers()
        attach(numbers, GraphHosting(graph))
        kept = numbers.kept(1)
        await kept
        for number in range(10):
            await numbers.get(number)
        assert kept.is_consistent
        await asyncio.sleep(59)
        for number in range(10, 20):
            await numbers.get(number)
        assert kept.is_consistent
        await asyncio.sleep(2)
        for number in range(20, 30):
            await numbers.get(number)
        assert not kept.is_consistent
        graph.validate()
        await graph.close()

    run_in_virtual_time(main())


def test_many_retained_nodes_that_were_invalidated_are_not_kept_in_memory() -> None:
    async def main() -> None:
        graph, numbers = Graph(max_nodes=4), Numbers()
        attach(numbers, GraphHosting(graph))
        for number in range(1000):
            kept = numbers.kept(number % 2)
            await kept
            for other in range(5):
                await numbers.get(other)
            kept.invalidate()
        assert len(graph._retention._retained) < 100
        await graph.close()

    run_in_virtual_time(main())


def test_auto_invalidation_delay_expires() -> None:
    async def main() -> None:
        graph, numbers = Graph(), Numbers()
        attach(numbers, GraphHosting(graph))
        loop = asyncio.get_running_loop()
        for method in (numbers.fleeting, numbers.kept_but_fleeting):
            computed = method(1)
            await computed
            await asyncio.sleep(4.9)
            assert computed.is_consistent
            started_s = loop.time()
            await computed.when_invalidated()
            assert loop.time() - started_s == pytest.approx(0.1)
        await numbers.fleeting(1)
        assert numbers.log == [1, 1]
        numbers.fleeting(1).invalidate()
        assert await numbers.fleeting(1) == 1
        await asyncio.sleep(4)
        assert numbers.fleeting.peek(1) is not None  # the timer of the one before was stopped
        await graph.close()

    run_in_virtual_time(main())


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="error_delay") as caught:
        compute_method(error_delay=-1.0)
    assert caught.value.field == "error_delay"
    with pytest.raises(UsageError, match="has no parameter 'nobody' to shard by"):
        compute_method(shard_by="nobody")(Numbers.get.body)
    with pytest.raises(UsageError, match="max_nodes"):
        Graph(max_nodes=0)
