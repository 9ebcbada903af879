"""A.13: `invalidation_delay` makes one invalidation of a burst, and none comes later than that; results expire."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, State, compute_method
from fusion_cluster.graph.core.pure.history import OUT_OF_DATE
from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.testing import VirtualTimeLoop
from tests.unit.graph.gauges import DELAY_S, Gauges, evict, in_virtual_time, seconds_until

CHANGE = Cause("test", "the first change")


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


@in_virtual_time
async def test_a_burst_of_changes_is_one_invalidation(gauges: Gauges, graph: Graph) -> None:
    drawn = gauges.drawn("a")
    assert await drawn == "<1>"
    told: list[str] = []
    gauges.smooth("a").on_invalidated(lambda _: told.append("smooth"))
    drawn.on_invalidated(lambda _: told.append("drawn"))
    for value in range(100):
        gauges.put("a", value)
        await gauges.gauge("a")
        await asyncio.sleep(0.01)
        assert drawn.is_consistent
        graph.validate()
    assert told == []
    await drawn.when_invalidated()
    assert told == ["smooth", "drawn"]
    assert await gauges.drawn("a") == "<99>"
    assert gauges.runs("smooth a") == gauges.runs("drawn a") == 2


@in_virtual_time
async def test_the_delay_runs_from_the_first_change_however_many_follow(gauges: Gauges, graph: Graph) -> None:
    smooth = gauges.smooth("a")
    await smooth
    gauges.put("a", 2)
    ends = asyncio.create_task(seconds_until(smooth.when_invalidated()))
    for value in range(40):
        await asyncio.sleep(0.1)
        gauges.put("a", value)
        smooth.invalidate()
    assert ends.result() == pytest.approx(DELAY_S)


@in_virtual_time
async def test_readers_get_the_old_value_for_the_delay_and_then_no_longer(gauges: Gauges, graph: Graph) -> None:
    await gauges.drawn("a")
    gauges.put("a", 2)
    await asyncio.sleep(DELAY_S - 0.01)
    assert (await gauges.gauge("a"), await gauges.smooth("a"), await gauges.drawn("a")) == (2, 1, "<1>")
    await asyncio.sleep(0.02)
    assert (await gauges.smooth("a"), await gauges.drawn("a")) == (2, "<2>")


@pytest.mark.parametrize("how", ["by key", "by computed"])
@in_virtual_time
async def test_an_invalidation_by_hand_waits_too(gauges: Gauges, graph: Graph, how: str) -> None:
    smooth = gauges.smooth("a")
    await smooth
    for _ in range(3):
        if how == "by key":
            await gauges.smooth.invalidate("a")
        else:
            smooth.invalidate()
        assert smooth.is_consistent
    assert await seconds_until(smooth.when_invalidated()) == pytest.approx(DELAY_S)


@in_virtual_time
async def test_delays_of_different_keys_are_their_own(gauges: Gauges, graph: Graph) -> None:
    first, second = gauges.smooth("a"), gauges.smooth("b")
    await first
    await second
    gauges.put("a", 2)
    await asyncio.sleep(1.5)
    gauges.put("b", 20)
    await asyncio.sleep(0.6)
    assert (first.is_consistent, second.is_consistent) == (False, True)
    await asyncio.sleep(1.0)
    assert second.is_consistent
    await asyncio.sleep(0.5)
    assert not second.is_consistent


@pytest.mark.parametrize("is_by_hand", [False, True])
@in_virtual_time
async def test_what_is_being_computed_is_outdated_at_once(gauges: Gauges, graph: Graph, is_by_hand: bool) -> None:
    gate = gauges.gate("smooth a")
    smooth = gauges.smooth("a")
    reading = asyncio.create_task(value_of(smooth))
    await gate.entered.wait()
    if is_by_hand:
        smooth.invalidate()
        graph.validate()
    gauges.put("a", 2)
    assert gauges.smooth("a") is not smooth  # whoever comes now does not join what began before the change
    assert await gauges.smooth("a") == 2
    gate.open()
    assert await reading == 1
    assert smooth.state is State.INVALIDATED


@in_virtual_time
async def test_dependents_that_have_also_used_what_changed_do_not_wait(gauges: Gauges, graph: Graph) -> None:
    class Both(ComputeService):
        @compute_method
        async def both(self) -> tuple[int, int]:
            return await gauges.gauge("a"), await gauges.smooth("a")

    both = Both()
    attach(both, GraphHosting(graph))
    assert await both.both() == (1, 1)
    gauges.put("a", 2)
    assert await both.both() == (2, 1)
    await asyncio.sleep(DELAY_S + 0.01)
    assert await both.both() == (2, 2)


def _forced(graph: Graph, node: Computed[Any]) -> None:
    graph.invalidate_now(node)


def _all(graph: Graph, node: Computed[Any]) -> None:
    graph.invalidate_all()


def _evicted(graph: Graph, node: Computed[Any]) -> None:
    evict(node)


def _with_what_it_used_evicted(graph: Graph, node: Computed[Any]) -> None:
    gauge = graph.functions["Gauges.gauge"].peek(node.arguments)
    assert gauge is not None
    evict(gauge)


def _replaced(graph: Graph, node: Computed[Any]) -> None:
    node.function.assign_value(node.arguments, 7)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("end", [_forced, _all, _evicted, _with_what_it_used_evicted, _replaced])
@in_virtual_time
async def test_what_is_no_mere_change_does_not_wait_and_ends_a_delay(
    gauges: Gauges, graph: Graph, end: Callable[[Graph, Computed[Any]], None], begun: bool
) -> None:
    drawn = gauges.drawn("a")
    await drawn
    smooth = gauges.smooth("a")
    if begun:
        smooth.invalidate()
        await asyncio.sleep(DELAY_S / 2)
    end(graph, smooth)
    assert not smooth.is_consistent
    assert not drawn.is_consistent
    new = gauges.smooth("a")
    await new
    await asyncio.sleep(2 * DELAY_S)
    assert new.is_consistent  # the old one's timer does not hit it


@in_virtual_time
async def test_a_value_that_was_paged_out_and_cannot_be_computed_again_is_lost_at_once(
    gauges: Gauges, graph: Graph
) -> None:
    gauges.values["a"] = 1
    drawn = gauges.drawn("a")
    await drawn
    smooth = gauges.smooth("a")
    graph.registry.page_out(smooth)
    gauges.step = None  # type: ignore[assignment,method-assign]  # so that bodies fail from now on
    with pytest.raises(TypeError):
        await smooth
    assert (smooth.is_consistent, drawn.is_consistent) == (False, False)


class Watched(list[int]):
    """A value whose end can be seen."""


@in_virtual_time
async def test_a_delay_that_was_overtaken_keeps_nothing_in_memory(gauges: Gauges, graph: Graph) -> None:
    gauges.values["a"] = Watched([1])
    seen = weakref.ref(gauges.values["a"])
    drawn = gauges.drawn("a")
    await drawn
    gauges.smooth("a").invalidate()
    gauges.put("a", 2)
    graph.invalidate_now(gauges.smooth("a"))
    del drawn
    graph.registry.history.clear()
    gc.collect()
    assert seen() is None


@in_virtual_time
async def test_the_sooner_of_expiry_and_delay_counts(gauges: Gauges, graph: Graph) -> None:
    class Fleeting(ComputeService):
        @compute_method(invalidation_delay=2.0, auto_invalidation_delay=5.0)
        async def now(self) -> int:
            return int(await gauges.gauge("a"))

    fleeting = Fleeting()
    attach(fleeting, GraphHosting(graph))
    computed = fleeting.now()
    await computed
    assert await seconds_until(computed.when_invalidated()) == pytest.approx(5.0)
    for before_s, after_s in ((4.0, 1.0), (1.0, 2.0)):
        computed = fleeting.now()
        await computed
        await asyncio.sleep(before_s)
        gauges.put("a", 2)
        gauges.put("a", 3)
        assert await seconds_until(computed.when_invalidated()) == pytest.approx(after_s)
    computed = fleeting.now()
    await computed
    assert await seconds_until(computed.when_invalidated()) == pytest.approx(5.0)  # no timer of another is left


@in_virtual_time
async def test_the_cause_is_that_of_the_first_change(gauges: Gauges, graph: Graph) -> None:
    smooth = gauges.smooth("a")
    await smooth
    gauges.gauge.function.invalidate(("a",), CHANGE)
    await asyncio.sleep(1.0)
    smooth.invalidate()
    await smooth.when_invalidated()
    causes = {
        event[2].name: event[6] for event in graph.registry.history.events() if event[1] == OUT_OF_DATE and event[4]
    }
    assert causes == {"Gauges.gauge": CHANGE, "Gauges.smooth": CHANGE}


@in_virtual_time
async def test_a_result_that_may_not_last_is_never_cached(gauges: Gauges, graph: Graph) -> None:
    class Fleeting(ComputeService):
        runs = 0

        @compute_method(auto_invalidation_delay=0)
        async def now(self) -> int:
            self.runs += 1
            return self.runs

    fleeting = Fleeting()
    attach(fleeting, GraphHosting(graph))
    assert [await fleeting.now(), await fleeting.now()] == [1, 2]
    assert fleeting.now.peek() is None


def test_where_no_time_passes_nothing_waits() -> None:
    graph, gauges = Graph(), Gauges()
    attach(gauges, GraphHosting(graph))
    smooth = gauges.smooth.function.assign_value(("a",), 1)
    smooth.invalidate()  # there is no loop yet
    assert not smooth.is_consistent
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        smooth = gauges.smooth("a")
        runner.run(value_of(smooth))
    assert smooth.is_consistent
    smooth.invalidate()  # the loop is closed
    assert not smooth.is_consistent


def test_what_was_to_end_in_a_loop_that_is_gone_ends_in_the_next() -> None:
    graph, gauges = Graph(), Gauges()
    attach(gauges, GraphHosting(graph))
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(value_of(gauges.drawn("a")))
        gauges.put("a", 2)
        runner.run(asyncio.sleep(0.1))
        assert gauges.drawn.peek("a") is not None
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(value_of(gauges.gauge("b")))
        assert runner.run(value_of(gauges.drawn("a"))) == "<2>"
        runner.run(graph.close())
