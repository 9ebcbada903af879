"""`expire_after` and `expire_at`: a body says for how long its result stands."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fusion_cluster import expire_at
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Computed, Graph, GraphHosting, State
from fusion_cluster.runtime import Clock, Runtime
from tests.unit.bodies.terms import Terms, in_virtual_time, seconds_until_invalidated, waiting_timers


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


# -- when --------------------------------------------------------------------------------------------------------------
@in_virtual_time
async def test_a_result_expires_after_what_its_body_has_said_and_its_dependents_with_it(
    terms: Terms, graph: Graph
) -> None:
    terms.after("a", 5)
    shown = terms.shown("a")
    assert await shown == "<1>"
    graph.validate()
    assert await seconds_until_invalidated(shown) == pytest.approx(5)
    assert not terms.term("a").is_consistent
    assert await terms.shown("a") == "<2>"


@in_virtual_time
async def test_each_result_has_the_time_that_its_own_run_has_said(terms: Terms, graph: Graph) -> None:
    for name, delay_s in (("a", 5), ("b", 7)):
        terms.after(name, delay_s)
    first, second = terms.term("a"), terms.term("b")
    await first
    await second
    assert await seconds_until_invalidated(first) == pytest.approx(5)
    assert second.is_consistent
    terms.say.clear()
    again = terms.term("a")
    await again
    assert await seconds_until_invalidated(second) == pytest.approx(2)
    await asyncio.sleep(1e6)
    assert again.is_consistent
    assert waiting_timers() == 0


@in_virtual_time
async def test_the_time_runs_from_the_call_and_not_from_the_end_of_the_body(terms: Terms, graph: Graph) -> None:
    terms.after("a", 5)
    gate = terms.gate("a")
    reading = asyncio.create_task(value_of(terms.term("a")))
    await gate.entered.wait()
    await asyncio.sleep(2)
    gate.open()
    await reading
    assert await seconds_until_invalidated(terms.term("a")) == pytest.approx(3)


@pytest.mark.parametrize("delays_s", [(5, 9), (9, 5), (5, 5), (9, math.inf, 5)])
def test_what_is_said_several_times_holds_for_the_earliest(delays_s: tuple[float, ...]) -> None:
    @in_virtual_time
    async def test(terms: Terms, graph: Graph) -> None:
        terms.after("a", *delays_s)
        await terms.term("a")
        assert waiting_timers() == 1
        assert await seconds_until_invalidated(terms.term("a")) == pytest.approx(5)

    test()


@pytest.mark.parametrize(("said_s", "lasts_s"), [(5, 5), (15, 10), (math.inf, 10)])
@pytest.mark.parametrize("method", ["ten_at_most", "fail"])
def test_an_option_or_an_error_that_ends_it_earlier_wins(method: str, said_s: float, lasts_s: float) -> None:
    @in_virtual_time
    async def test(terms: Terms, graph: Graph) -> None:
        terms.after("a", said_s)
        computed = await getattr(terms, method)("a").update()
        assert waiting_timers() == 1
        assert await seconds_until_invalidated(computed) == pytest.approx(lasts_s)

    test()


@pytest.mark.parametrize("delay_s", [0, -1, -math.inf])
def test_without_any_time_a_result_is_given_to_those_who_wait_and_kept_for_nobody(delay_s: float) -> None:
    @in_virtual_time
    async def test(terms: Terms, graph: Graph) -> None:
        terms.after("a", delay_s)
        gate = terms.gate("a")
        first = terms.term("a")
        reading = asyncio.create_task(value_of(first))
        await gate.entered.wait()
        assert terms.term("a") is not first  # a newcomer does not join it
        gate.open()
        assert await reading == 1
        assert first.state is State.INVALIDATED
        assert await terms.term("a") == 2
        assert waiting_timers() == 0

    test()


@in_virtual_time
async def test_a_result_whose_time_ends_while_it_is_computed_is_out_of_date_from_birth(
    terms: Terms, graph: Graph
) -> None:
    terms.after("a", 5)
    gate = terms.gate("a")
    shown = terms.shown("a")
    reading = asyncio.create_task(value_of(shown))
    await gate.entered.wait()
    graph.validate()
    await asyncio.sleep(6)
    graph.validate()
    terms.say.clear()
    assert await terms.term("a") == 2
    gate.open()
    assert await reading == "<1>"
    assert not shown.is_consistent
    assert await terms.shown("a") == "<2>"


@in_virtual_time
async def test_infinite_says_nothing(terms: Terms, graph: Graph) -> None:
    terms.after("a", math.inf)
    computed = terms.term("a")
    await computed
    assert waiting_timers() == 0
    assert computed.is_consistent


# -- the clock on the wall ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=-7))])
def test_a_time_of_day_is_seconds_since_the_epoch_or_a_time_with_its_zone(zone: timezone | None) -> None:
    @in_virtual_time
    async def test(terms: Terms, graph: Graph) -> None:
        at_s = terms.clock() + 90
        moment = at_s if zone is None else datetime.fromtimestamp(at_s, zone)
        terms.say["a"] = lambda: expire_at(moment)
        await terms.term("a")
        assert await seconds_until_invalidated(terms.term("a")) == pytest.approx(90, abs=0.002)
        assert terms.clock() >= at_s

    test()


@in_virtual_time
async def test_a_time_that_is_past_is_no_time_at_all(terms: Terms, graph: Graph) -> None:
    terms.say["a"] = lambda: expire_at(terms.clock() - 1)
    computed = terms.term("a")
    await computed
    assert not computed.is_consistent


@in_virtual_time
async def test_it_is_never_earlier_than_the_clock_on_the_wall_says(terms: Terms, graph: Graph) -> None:
    at_s = terms.clock() + 60
    terms.say["a"] = lambda: expire_at(at_s)
    await terms.term("a")
    terms.clock.ahead_s -= 30  # somebody sets it back
    assert await seconds_until_invalidated(terms.term("a")) == pytest.approx(90, abs=0.002)
    assert terms.clock() >= at_s
    assert terms.log == ["a"]


@in_virtual_time
async def test_timers_that_come_too_early_are_not_asked_for_all_the_time(terms: Terms, graph: Graph) -> None:
    """Timers of uvloop are rounded to milliseconds, and may be early by half of one."""
    loop = asyncio.get_running_loop()
    looks: list[float] = []
    at_s = terms.clock() + 60

    def clock() -> float:
        looks.append(loop.time())
        return terms.clock() - 0.0004

    graph.runtime = Runtime(Clock(loop.time, clock))
    terms.say["a"] = lambda: expire_at(at_s)
    await terms.term("a")
    looks.clear()
    terms.clock.ahead_s = 0.0002  # from now on the clock is a little ahead of what the timer knows
    await terms.term("a").when_invalidated()
    assert at_s <= clock() <= at_s + 0.002
    assert len(looks) <= 3


@in_virtual_time
async def test_a_clock_that_is_set_forward_is_noticed_when_the_timer_ends(terms: Terms, graph: Graph) -> None:
    terms.say["a"] = lambda: expire_at(terms.clock() + 60)
    await terms.term("a")
    terms.clock.ahead_s += 3600
    assert await seconds_until_invalidated(terms.term("a")) == pytest.approx(60, abs=0.002)


# -- what else may happen to the result --------------------------------------------------------------------------------
@in_virtual_time
async def test_what_was_invalidated_before_leaves_no_timer(terms: Terms, graph: Graph) -> None:
    terms.after("a", 5)
    computed = terms.term("a")
    await computed
    computed.invalidate()
    assert waiting_timers() == 0


@in_virtual_time
async def test_a_computation_that_is_abandoned_leaves_no_timer(terms: Terms, graph: Graph) -> None:
    terms.after("a", 5)
    gate = terms.gate("a")
    reading = asyncio.create_task(value_of(terms.term("a")))
    await gate.entered.wait()
    reading.cancel()
    await asyncio.wait([reading])
    assert waiting_timers() == 0
    graph.validate()


@in_virtual_time
async def test_a_result_that_may_be_late_still_expires_in_time(terms: Terms, graph: Graph) -> None:
    terms.after("a", 5)
    computed = terms.late("a")
    await computed
    assert await seconds_until_invalidated(computed) == pytest.approx(5)
    computed = terms.late("a")
    await computed
    await asyncio.sleep(1)
    computed.invalidate()  # this waits for three seconds, and comes first
    assert await seconds_until_invalidated(computed) == pytest.approx(3)
    computed = terms.late("a")
    await computed
    await asyncio.sleep(4)
    computed.invalidate()
    assert await seconds_until_invalidated(computed) == pytest.approx(1)
    terms.say.clear()


@in_virtual_time
async def test_a_result_that_is_consolidated_expires_only_if_it_has_changed(terms: Terms, graph: Graph) -> None:
    terms.after("a", 5)
    watched = terms.watched("a")
    assert await watched == "<0>"
    await asyncio.sleep(7)
    assert watched.is_consistent
    assert terms.log == ["a", "a"]
    assert await seconds_until_invalidated(watched) == pytest.approx(5)  # 1 + 5 + 1 + 5 + … the third is another
    assert await terms.watched("a") == "<1>"


@in_virtual_time
async def test_a_value_that_is_paged_out_and_in_again_still_expires_in_time(terms: Terms, graph: Graph) -> None:
    graph = Graph(max_bytes=2_500, size_of=lambda value: 1_000 if isinstance(value, int) else 0, runtime=graph.runtime)
    terms = Terms(terms.clock)
    attach(terms, GraphHosting(graph))
    at_s = terms.clock() + 60
    terms.say["a"] = lambda: expire_at(at_s)
    shown = terms.shown("a")
    await shown
    shown.on_invalidated(lambda _: None)  # so that it is kept, and its dependency with it
    await asyncio.sleep(1)
    await terms.term("b")
    node = terms.term("a")
    assert node.is_consistent
    assert not node.has_output
    await asyncio.sleep(20)
    await node
    assert terms.log == ["a", "b", "a"]
    assert shown.is_consistent
    assert await seconds_until_invalidated(shown) == pytest.approx(39, abs=0.002)
    await graph.close()


# -- why ---------------------------------------------------------------------------------------------------------------
@in_virtual_time
async def test_why_names_the_call_in_the_body(terms: Terms, graph: Graph) -> None:
    terms.after("a", 5)
    shown = terms.shown("a")
    await shown
    await shown.when_invalidated()
    explanation = graph.why(shown)
    assert explanation is not None
    assert explanation.origin is not None
    assert explanation.origin.kind == "expired"
    assert "the 5 s that its body gave it by expire_after() were over" in str(explanation)
    assert "terms.py" in str(explanation)
    terms.clock.ahead_s = 100_000_000 - 60
    terms.say["b"] = lambda: expire_at(1_900_000_000)
    await terms.term("b")
    computed = terms.term("b")
    await computed.when_invalidated()
    assert "its body let it expire at 2030-03-17 17:46:40.000+00:00" in str(graph.why(computed))
