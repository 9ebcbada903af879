"""Which of the two computeds of a consolidated result an option is about, and how its body is called."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather
from fusion_cluster.graph.core.context import current_computation
from tests.unit.graph.gauges import Gauges, in_virtual_time, seconds_until


def ignore(_: Computed[Any]) -> None:
    """Observe, and do nothing about it."""


class Options(ComputeService):
    def __init__(self) -> None:
        self.runs = 0
        self.value = 0
        self.contexts: list[object] = []

    async def run(self) -> int:
        self.runs += 1
        return self.value

    @compute_method(consolidation_delay=0, auto_invalidation_delay=5)
    async def polled(self) -> int:
        return await self.run()

    @compute_method(consolidation_delay=2, invalidation_delay=3)
    async def doubly_late(self) -> int:
        return await self.run()

    @compute_method(consolidation_delay=0, min_cache_duration=60)
    async def kept(self, number: int) -> int:
        return number

    @compute_method(consolidation_delay=0, offload="thread")
    def in_a_thread(self) -> int:
        self.runs += 1
        return self.value

    @compute_method(consolidation_delay=0)
    async def spelled(self, first: int, second: str = "b", *, third: float = 1.0) -> tuple[int, str, float]:
        return first, second, third

    @compute_method(consolidation_delay=0)
    async def itself(self, number: int) -> int:
        return await self.through(number)

    @compute_method
    async def through(self, number: int) -> int:
        return await self.itself(number)


@pytest.fixture
def options(graph: Graph) -> Options:
    options = Options()
    attach(options, GraphHosting(graph))
    return options


@in_virtual_time
async def test_what_expires_is_asked_again_and_only_changes_are_told(gauges: Gauges, graph: Graph) -> None:
    options = Options()
    attach(options, GraphHosting(graph))
    polled = options.polled()
    await polled
    polled.on_invalidated(ignore)
    await asyncio.sleep(24)
    assert (options.runs, polled.is_consistent) == (5, True)
    options.value = 1
    assert await seconds_until(polled.when_invalidated()) == pytest.approx(1.0)
    assert (options.runs, await options.polled()) == (6, 1)
    await asyncio.sleep(5.01)
    assert options.runs == 6  # nobody is interested: it just expires
    assert options.polled.peek() is None


@in_virtual_time
async def test_both_delays_pass_one_after_the_other(gauges: Gauges, graph: Graph) -> None:
    options = Options()
    attach(options, GraphHosting(graph))
    late = options.doubly_late()
    await late
    for invalidate in (late.invalidate, options.doubly_late.invalidate):
        late = options.doubly_late()
        await late
        late.on_invalidated(ignore)
        options.value += 1
        invalidate()
        graph.validate()
        assert await seconds_until(options.doubly_late().when_invalidated()) == pytest.approx(5.0)


async def test_options_say_what_was_asked_for_and_sources_are_not_listed(options: Options, graph: Graph) -> None:
    assert options.polled.function.options.consolidation_delay == 0
    assert options.polled.function.options.auto_invalidation_delay == 5
    assert not [name for name in graph.functions if "source" in name]
    assert await options.kept(1) == 1
    assert [str(node.key.method) for node in graph.functions["Options.kept"].nodes()] == ["kept"]


async def test_calls_are_spelled_as_ever(options: Options) -> None:
    assert await options.spelled(1) == (1, "b", 1.0)
    assert options.spelled(1) is options.spelled(first=1, second="b", third=1)
    assert await options.spelled(2, third=2.5) == (2, "b", 2.5)


async def test_bodies_run_where_their_options_say(options: Options) -> None:
    computed = options.in_a_thread()
    assert await gather(*(options.in_a_thread() for _ in range(100))) == [0] * 100
    computed.on_invalidated(ignore)
    options.value = 1
    computed.invalidate()
    assert computed.is_consistent
    await computed.when_invalidated()
    assert (await options.in_a_thread(), options.runs) == (1, 2)


async def test_a_cycle_through_a_source_raises_with_its_path(options: Options) -> None:
    with pytest.raises(
        CircularDependencyError, match=r"through\(1\) → .*itself\(1\) → .*itself:source\(1\) → .*through"
    ):
        await options.through(1)


@in_virtual_time
async def test_what_is_computed_to_compare_runs_in_nobodys_context(gauges: Gauges, graph: Graph) -> None:
    seen: list[Any] = []
    user = ContextVar[str]("user", default="nobody")

    class Curious(ComputeService):
        @compute_method(consolidation_delay=0)
        async def level(self) -> int:
            node = current_computation.get()
            seen.append((user.get(), None if node is None else node.function.name))
            return 1

        @compute_method
        async def meddling(self) -> int:
            user.set("me")
            self.level.invalidate()
            await asyncio.sleep(1)
            return 2

    curious = Curious()
    attach(curious, GraphHosting(graph))
    await curious.level()
    curious.level().on_invalidated(ignore)
    meddling = curious.meddling()
    await meddling
    assert seen == [("nobody", "Curious.level:source")] * 2
    curious.level.invalidate()
    graph.invalidate_now(curious.level())
    assert meddling.is_consistent
