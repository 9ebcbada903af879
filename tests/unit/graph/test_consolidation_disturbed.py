"""Consolidation under way, and something else happens: changes, readers that leave, comparisons that fail."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fusion_cluster.graph import Computed, Graph, State
from fusion_cluster.graph.computing import consolidation, delay
from fusion_cluster.graph.computing.consolidation import is_consolidated
from tests.unit.graph.gauges import DELAY_S, Gauges, evict, in_virtual_time, seconds_until


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


def ignore(_: Computed[Any]) -> None:
    """Observe, and do nothing about it."""


async def consolidating(gauges: Gauges, value: object = 2) -> Computed[Any]:
    """Return a target that somebody depends on, and whose source has just been invalidated."""
    await gauges.shown("a")
    gauges.put("a", value)
    level = gauges.level("a")
    assert is_consolidated(level)
    return level


# -- changes in the midst of it --------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_by_hand", [False, True])
@pytest.mark.parametrize("label", ["gauge a", "level a"])
@in_virtual_time
async def test_a_change_while_the_target_is_computed_outdates_it_at_once(
    gauges: Gauges, graph: Graph, label: str, is_by_hand: bool
) -> None:
    gate = gauges.gate(label)
    level = gauges.level("a")
    reading = [asyncio.create_task(value_of(computed)) for computed in (gauges.shown("a"), level)]
    await gate.entered.wait()
    if is_by_hand:
        level.invalidate()
        graph.validate()
        assert not is_consolidated(level)
    gauges.put("a", 10)
    graph.validate()
    assert gauges.level("a") is not level
    assert await gauges.level("a") == 1
    gate.open()
    assert await asyncio.gather(*reading) == ["[0]", 0]
    assert level.state is State.INVALIDATED
    assert await gauges.shown("a") == "[1]"


@pytest.mark.parametrize("how", ["by key", "by computed"])
@in_virtual_time
async def test_a_target_invalidated_by_hand_while_it_is_computed_reads_no_older_source(
    gauges: Gauges, graph: Graph, how: str
) -> None:
    await gauges.level("a")
    evict(gauges.level("a"))
    level = gauges.level("a")  # not computed yet; its source is consistent
    gauges.values["a"] = 10
    gauges.gauge.function.assign_value(("a",), 10)
    if how == "by key":
        await gauges.level.invalidate("a")
    else:
        level.invalidate()
    assert level.state is State.INVALIDATED
    assert await gauges.level("a") == 1


@in_virtual_time
async def test_an_error_that_was_overtaken_by_a_change_is_computed_once_more(gauges: Gauges, graph: Graph) -> None:
    gauges.values["a"] = ValueError("broken")
    level = gauges.level("a")
    await level.update()
    level.on_invalidated(ignore)
    gauges.put("a", ValueError("broken"))
    gate = gauges.gate("gauge a")
    await gate.entered.wait()
    gauges.put("a", ValueError("broken"))
    gate.open()
    await asyncio.sleep(DELAY_S + 1)
    assert level.is_consistent
    assert gauges.runs("gauge a") == 3


@in_virtual_time
async def test_a_change_while_the_source_is_computed_again_is_not_missed(gauges: Gauges, graph: Graph) -> None:
    shown = gauges.shown("a")
    level = await consolidating(gauges)
    gate = gauges.gate("level a")
    await gate.entered.wait()
    await asyncio.sleep(0.5)
    gauges.put("a", 30)  # what is computed now, from the change before, will be the same
    graph.validate()
    await asyncio.sleep(0.5)
    gate.open()
    ends_s = await seconds_until(level.when_invalidated())
    assert ends_s == pytest.approx(DELAY_S - 0.5)  # the delay ran from the change
    assert not shown.is_consistent
    assert await gauges.shown("a") == "[3]"
    assert gauges.runs("level a") == 3


@in_virtual_time
async def test_a_change_that_comes_too_late_to_wait_is_computed_at_once(gauges: Gauges, graph: Graph) -> None:
    level = await consolidating(gauges)
    gate = gauges.gate("level a")
    await gate.entered.wait()
    level.invalidate()
    gauges.put("a", 30)
    await asyncio.sleep(DELAY_S + 1)
    gate.open()
    assert await seconds_until(level.when_invalidated()) == 0


@in_virtual_time
async def test_what_was_outdated_and_differs_is_different_all_the_same(gauges: Gauges, graph: Graph) -> None:
    level = await consolidating(gauges, 30)
    gate = gauges.gate("level a")
    await gate.entered.wait()
    gauges.put("a", 1)
    gate.open()
    await level.when_invalidated()
    assert await gauges.level("a") == 0
    assert gauges.runs("level a") == 3


@in_virtual_time
async def test_changes_that_never_stop_do_not_keep_an_old_value(gauges: Gauges, graph: Graph) -> None:
    """Each computation is overtaken by a change; a difference counts, though."""
    level = await consolidating(gauges)
    for value in (3, 4, 5, 10):
        gate = gauges.gate("level a")
        await gate.entered.wait()
        assert level.is_consistent
        gauges.put("a", value)
        gate.open()
    gate = gauges.gate("level a")
    await gate.entered.wait()
    gauges.put("a", 6)
    gate.open()
    await level.when_invalidated()


@in_virtual_time
async def test_many_readers_of_a_target_cause_one_computation(gauges: Gauges, graph: Graph) -> None:
    gate = gauges.gate("level a")
    readers = [asyncio.create_task(value_of(gauges.level("a"))) for _ in range(1000)]
    await gate.entered.wait()
    for reader in readers[:500]:
        reader.cancel()
    gate.open()
    assert await asyncio.gather(*readers[500:]) == [0] * 500
    assert gauges.log == ["gauge a", "level a"]


@in_virtual_time
async def test_readers_that_all_leave_end_the_computation_of_the_source(gauges: Gauges, graph: Graph) -> None:
    gate = gauges.gate("level a")
    readers = [asyncio.create_task(value_of(gauges.level("a"))) for _ in range(3)]
    await gate.entered.wait()
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    assert graph.stats.nodes == 1  # the gauge
    assert await gauges.level("a") == 0
    assert gauges.runs("level a") == 2


@in_virtual_time
async def test_a_source_that_is_done_before_its_readers_leave_is_not_computed_again(
    gauges: Gauges, graph: Graph
) -> None:
    gate = gauges.gate("level a")
    reader = asyncio.create_task(value_of(gauges.level("a")))
    await gate.entered.wait()
    gate.open()
    reader.cancel()  # comes between the source and the target
    await asyncio.wait([reader])
    assert reader.cancelled()
    assert await gauges.level("a") == 0
    assert gauges.runs("level a") == 1


@in_virtual_time
async def test_a_reader_that_comes_during_a_consolidation_gets_a_value_at_once(gauges: Gauges, graph: Graph) -> None:
    await consolidating(gauges, 30)
    gate = gauges.gate("level a")
    await gate.entered.wait()
    reader = asyncio.create_task(value_of(gauges.level("a")))
    await asyncio.sleep(0)
    assert reader.result() == 0
    gate.open()


@in_virtual_time
async def test_a_computation_cancelled_from_within_confirms_nothing(gauges: Gauges, graph: Graph) -> None:
    level = await consolidating(gauges)

    async def give_up(label: str) -> None:
        raise asyncio.CancelledError

    gauges.step = give_up  # type: ignore[method-assign]
    assert await seconds_until(level.when_invalidated()) == pytest.approx(DELAY_S)


# -- comparing -------------------------------------------------------------------------------------------------------
class Array:
    """As those of NumPy: comparing gives no truth."""

    def __eq__(self, other: object) -> Any:
        return [True, True]

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Unordered:
    def __eq__(self, other: object) -> Any:
        return Array()

    __hash__ = None  # type: ignore[assignment]


class Broken:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("it cannot be compared")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ([1, {"a": 2}], [1, {"a": 2}], True),
        (None, None, True),
        (float("nan"), float("nan"), False),
        (Unordered(), Unordered(), False),
        (Broken(), Broken(), False),
        (ValueError(Unordered()), ValueError(Unordered()), False),
        (ValueError("a"), "a", False),
    ],
)
@in_virtual_time
async def test_what_cannot_say_that_it_is_equal_is_not(
    gauges: Gauges, graph: Graph, old: object, new: object, is_same: bool
) -> None:
    gauges.values["a"] = old
    level = gauges.level("a")
    await level.update()
    level.on_invalidated(ignore)
    gauges.put("a", new)
    await asyncio.sleep(DELAY_S + 1)
    assert level.is_consistent == is_same


@in_virtual_time
async def test_comparing_may_itself_invalidate(gauges: Gauges, graph: Graph) -> None:
    class Meddling:
        def __eq__(self, other: object) -> bool:
            graph.invalidate_now(gauges.level("a"))
            return True

        __hash__ = None  # type: ignore[assignment]

    gauges.values["a"] = Meddling()
    level = await consolidating(gauges, Meddling())
    await asyncio.sleep(DELAY_S + 1)
    assert not level.is_consistent
    graph.validate()


@in_virtual_time
async def test_what_cannot_wait_is_invalid_at_once(
    gauges: Gauges, graph: Graph, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    shown = gauges.shown("a")
    await shown
    monkeypatch.setattr(delay, "consolidate", refuse)
    with caplog.at_level(logging.CRITICAL, "fusion_cluster"):
        gauges.put("a", 2)
    assert (shown.is_consistent, gauges.level.peek("a")) == (False, None)


@in_virtual_time
async def test_if_the_source_cannot_be_computed_the_target_is_invalid(
    gauges: Gauges, graph: Graph, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    level = await consolidating(gauges)
    monkeypatch.setattr(consolidation, "enter", refuse)
    with caplog.at_level(logging.CRITICAL, "fusion_cluster"):
        await level.when_invalidated()
    monkeypatch.undo()
    assert await gauges.level("a") == 0


@in_virtual_time
async def test_if_the_verdict_fails_the_target_is_invalid(
    gauges: Gauges, graph: Graph, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    level = await consolidating(gauges)
    monkeypatch.setattr(consolidation, "link", refuse)
    with caplog.at_level(logging.CRITICAL, "fusion_cluster"):
        await level.when_invalidated()
