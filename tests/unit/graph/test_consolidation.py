"""A.14: a source that flaps back within the delay, or is computed again to an equal value, invalidates no dependent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import FusionError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.graph.core.pure.history import OUT_OF_DATE
from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.state import ComputedState, FixedDelayer
from tests.unit.graph.gauges import DELAY_S, Gauges, evict, in_virtual_time, seconds_until

CHANGE = Cause("test", "the change")


def ignore(_: Computed[Any]) -> None:
    """Observe, and do nothing about it."""


@in_virtual_time
async def test_an_equal_value_computed_again_tells_nobody(gauges: Gauges, graph: Graph) -> None:
    shown, level = gauges.shown("a"), gauges.level("a")
    assert await shown == "[0]"
    for value in (2, 3, 4):
        gauges.put("a", value)
        graph.validate()
        await asyncio.sleep(DELAY_S + 1)
        graph.validate()
        assert shown.is_consistent
        assert gauges.level("a") is level
    assert (gauges.runs("level a"), gauges.runs("shown a")) == (4, 1)


@in_virtual_time
async def test_another_value_tells_all_after_the_delay(gauges: Gauges, graph: Graph) -> None:
    shown, level = gauges.shown("a"), gauges.level("a")
    await shown
    told: list[Computed[Any]] = []
    shown.on_invalidated(told.append)
    level.on_invalidated(told.append)
    gauges.put("a", 10)
    await asyncio.sleep(DELAY_S - 0.01)
    assert (told, await gauges.level("a"), await gauges.shown("a")) == ([], 0, "[0]")
    await asyncio.sleep(0.02)
    assert told == [level, shown]
    assert (await gauges.level("a"), await gauges.shown("a")) == (1, "[1]")
    assert (gauges.runs("level a"), gauges.runs("shown a")) == (2, 2)  # what was computed to compare is not lost


@in_virtual_time
async def test_a_source_that_flaps_back_within_the_delay_is_computed_once_more_and_tells_nobody(
    gauges: Gauges, graph: Graph
) -> None:
    shown = gauges.shown("a")
    await shown
    for value in [10, 20, 1] * 5:
        gauges.put("a", value)
        await gauges.gauge("a")
        await asyncio.sleep(0.1)
    await asyncio.sleep(DELAY_S)
    assert shown.is_consistent
    assert gauges.runs("level a") == 2


@in_virtual_time
async def test_the_delay_runs_from_the_first_change_however_many_follow(gauges: Gauges, graph: Graph) -> None:
    shown = gauges.shown("a")
    await shown
    gauges.put("a", 10)
    ends = asyncio.create_task(seconds_until(shown.when_invalidated()))
    for value in range(25, 60):
        await asyncio.sleep(0.1)
        gauges.put("a", value)
        gauges.level("a").invalidate()
    assert ends.result() == pytest.approx(DELAY_S)
    assert await gauges.shown("a") == "[5]"


@in_virtual_time
async def test_the_next_change_is_seen_as_well(gauges: Gauges, graph: Graph) -> None:
    """The target goes on to watch the source that has confirmed it."""
    shown = gauges.shown("a")
    await shown
    gauges.put("a", 2)
    await asyncio.sleep(DELAY_S + 1)
    gauges.put("a", 30)
    assert await seconds_until(shown.when_invalidated()) == pytest.approx(DELAY_S)
    assert await gauges.shown("a") == "[3]"


@in_virtual_time
async def test_the_cause_is_that_of_the_change(gauges: Gauges, graph: Graph) -> None:
    shown = gauges.shown("a")
    await shown
    gauges.values["a"] = 10
    gauges.gauge.function.invalidate(("a",), CHANGE)
    await shown.when_invalidated()
    invalidated = [event for event in graph.registry.history.events() if event[1] == OUT_OF_DATE]
    assert [event[2].method_name for event in invalidated] == ["gauge", "level:source", "level", "shown"]
    assert {event[6] for event in invalidated} == {CHANGE}


@in_virtual_time
async def test_without_a_delay_it_is_computed_again_in_the_next_turn(gauges: Gauges, graph: Graph) -> None:
    class Signs(ComputeService):
        @compute_method(consolidation_delay=0)
        async def sign(self) -> bool:
            return bool(await gauges.gauge("a") > 0)

        @compute_method
        async def top(self) -> bool:
            return await self.sign()

    signs = Signs()
    attach(signs, GraphHosting(graph))
    top = signs.top()
    await top
    gauges.put("a", 5)
    gauges.put("a", 6)
    assert gauges.runs("gauge a") == 1  # nothing is computed within an invalidation
    assert await seconds_until(asyncio.sleep(0)) == 0
    assert gauges.runs("gauge a") == 2
    assert top.is_consistent
    gauges.put("a", -1)
    assert await seconds_until(top.when_invalidated()) == 0


@in_virtual_time
async def test_what_nobody_is_interested_in_is_not_computed_again(gauges: Gauges, graph: Graph) -> None:
    level = gauges.level("a")
    await level
    gauges.put("a", 2)
    assert not level.is_consistent  # whoever reads it next gets a fresh one
    await asyncio.sleep(DELAY_S + 1)
    assert gauges.runs("level a") == 1

    level = gauges.level("a")
    await level
    level.on_invalidated(ignore)
    gauges.put("a", 3)
    await asyncio.sleep(DELAY_S / 2)
    level.remove_observer(ignore)
    assert level.is_consistent
    await asyncio.sleep(DELAY_S / 2 + 0.01)
    assert not level.is_consistent
    assert gauges.runs("level a") == 2


@in_virtual_time
async def test_who_follows_it_is_interested_and_hears_of_changes_only(gauges: Gauges, graph: Graph) -> None:
    values: list[int] = []

    async def follow(changes: AsyncIterator[Computed[int]]) -> None:
        async for computed in changes:
            values.append(computed.value)  # noqa: PERF401 - one at a time

    following = asyncio.create_task(follow(gauges.level.changes("a")))
    async with ComputedState(lambda: gauges.level("a"), update_delayer=FixedDelayer(0)) as state:
        await state
        for value in (1, 2, 30, 30, 31, 7):
            gauges.put("a", value)
            await asyncio.sleep(DELAY_S + 1)
        assert values == [0, 3, 0]
        assert state.snapshot.update_count == 3
    following.cancel()


@in_virtual_time
async def test_cutoff_ends_a_change_that_has_a_long_way_to_go(gauges: Gauges, graph: Graph) -> None:
    class Tall(ComputeService):
        def __init__(self) -> None:
            self.log: list[str] = []

        @compute_method(consolidation_delay=0)
        async def sign(self) -> bool:
            self.log.append("sign")
            return bool(await gauges.level("a") > 3)

        @compute_method
        async def top(self) -> str:
            self.log.append("top")
            return "high" if await self.sign() else "low"

    tall = Tall()
    attach(tall, GraphHosting(graph))
    top = tall.top()
    assert await top == "low"
    gauges.put("a", 2)  # the level is the same
    await asyncio.sleep(DELAY_S + 1)
    assert tall.log == ["top", "sign"]
    gauges.put("a", 20)  # the level is another, the sign is the same
    await asyncio.sleep(DELAY_S + 1)
    assert tall.log == ["top", "sign", "sign"]
    assert top.is_consistent
    gauges.put("a", 40)
    await asyncio.sleep(DELAY_S + 1)
    assert await tall.top() == "high"
    assert tall.log == ["top", "sign", "sign", "sign", "top"]


# -- invalidated by hand ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["by key", "by computed"])
@in_virtual_time
async def test_an_invalidation_by_hand_says_that_the_source_has_changed(gauges: Gauges, graph: Graph, how: str) -> None:
    async def invalidate() -> None:
        if how == "by key":
            await gauges.level.invalidate("a")
        else:
            gauges.level("a").invalidate()
        graph.validate()

    shown = gauges.shown("a")
    await shown
    await invalidate()
    await asyncio.sleep(DELAY_S + 1)
    assert shown.is_consistent
    assert (gauges.runs("level a"), gauges.runs("gauge a")) == (2, 1)
    gauges.values["a"] = 50
    gauges.gauge.function.assign_value(("a",), 50)
    await invalidate()
    await asyncio.sleep(DELAY_S + 1)
    assert await gauges.shown("a") == "[5]"


@in_virtual_time
async def test_an_invalidation_by_hand_reaches_a_source_whose_target_is_gone(gauges: Gauges, graph: Graph) -> None:
    await gauges.level("a")
    evict(gauges.level("a"))
    await gauges.level.invalidate("a")
    await gauges.level("a")
    assert gauges.runs("level a") == 2


# -- errors ----------------------------------------------------------------------------------------------------------
@in_virtual_time
async def test_an_equal_error_tells_nobody_and_any_other_all(gauges: Gauges, graph: Graph) -> None:
    async def changes_to(value: object) -> bool:
        shown = gauges.shown("a")
        await shown.update()
        shown.on_invalidated(ignore)
        gauges.put("a", value)
        await asyncio.sleep(DELAY_S + 1)
        return not shown.is_consistent

    assert await changes_to(ValueError("broken", 1))
    assert not await changes_to(ValueError("broken", 1))
    assert await changes_to(ValueError("broken", 2))
    assert await changes_to(LookupError("broken", 2))
    assert await changes_to(5)
    assert not await changes_to(6)
    assert await changes_to("0")


@in_virtual_time
async def test_errors_expire_and_are_not_heard_of_again_while_they_last(gauges: Gauges, graph: Graph) -> None:
    gauges.values["a"] = ConnectionError("away")  # tried again after a second
    shown = gauges.shown("a")
    told: list[float] = []
    shown.on_invalidated(lambda _: told.append(asyncio.get_running_loop().time()))
    await shown.update()
    # Of three computeds with the same error `shown` has a time of its own; the consolidated one has not.
    level = gauges.level("a")
    level.on_invalidated(ignore)
    await asyncio.sleep(1.01)
    assert told == [pytest.approx(1.0)]
    await asyncio.sleep(20.0)
    assert gauges.level("a") is level
    assert gauges.runs("gauge a") == 1 + 21 // (1 + DELAY_S)
    gauges.values["a"] = 10
    await level.when_invalidated()
    assert await gauges.level("a") == 1


@pytest.mark.parametrize("is_its_own", [False, True])
@in_virtual_time
async def test_an_equal_error_that_will_not_last_is_not_asked_for_all_the_time(
    gauges: Gauges, graph: Graph, is_its_own: bool
) -> None:
    class Impatient(Exception):
        retry_after_s = 100.0

    class Busy(ComputeService):
        @compute_method(consolidation_delay=0)
        async def get(self) -> int:
            if is_its_own:
                gauges.log.append("gauge a")
                raise gauges.values["a"]
            return int(await gauges.gauge("a"))

    busy = Busy()
    attach(busy, GraphHosting(graph))
    gauges.values["a"] = Impatient("busy")
    computed = busy.get()
    await computed.update()
    computed.on_invalidated(ignore)
    gauges.put("a", Impatient("busy"))
    gauges.values["a"].retry_after_s = 0.0
    busy.get.invalidate()
    await asyncio.sleep(10.5)
    assert computed.is_consistent
    assert gauges.runs("gauge a") == 12
    gauges.values["a"] = 3
    await computed.when_invalidated()
    assert busy.get.peek() is None


@in_virtual_time
async def test_an_error_that_is_no_result_is_not_taken_for_confirmation(gauges: Gauges, graph: Graph) -> None:
    class NoResult(FusionError):
        is_memoized = False

    shown = gauges.shown("a")
    await shown
    gauges.put("a", NoResult("nobody knows"))
    assert await seconds_until(shown.when_invalidated()) == pytest.approx(DELAY_S)
    gauges.values["a"] = 5
    assert await gauges.shown("a") == "[0]"
