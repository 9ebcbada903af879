"""A.20: a state ends without a trace, whenever it is told to, and also when nobody tells it."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from fusion_cluster import ComputeService, UsageError, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.state import ComputedState, CutShortDelayer, FixedDelayer, MutableState, UserActions
from fusion_cluster.testing import VirtualTimeLoop, run_in_virtual_time


def state_of(source: MutableState[int], delay_s: float = 0.0) -> ComputedState[int]:
    async def compute() -> int:
        return source.value

    return ComputedState(compute, update_delayer=FixedDelayer(delay_s))


async def test_closing_in_mid_update_cancels_it_and_does_not_try_again() -> None:
    runs: list[str] = []
    entered = asyncio.Event()

    async def compute() -> int:
        runs.append("began")
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            runs.append("ended")
        return 1

    state = ComputedState(compute)
    state.start()
    state.start()
    await entered.wait()
    await state.close()
    assert runs == ["began", "ended"]
    assert state.is_closed
    with pytest.raises(UsageError, match="not been computed"):
        _ = state.value
    for act in (state.start, state.__await__):
        with pytest.raises(UsageError, match=r"ComputedState\.value is closed"):
            act()


async def test_the_end_wakes_all_who_wait() -> None:
    state = state_of(MutableState(1))
    state.start()
    await state.when(bool)

    async def follow() -> list[int]:
        return [computed.value async for computed in state.changes()]

    following = asyncio.create_task(follow())
    waiting = asyncio.create_task(state.when(lambda value: value == 7))
    watching = asyncio.create_task(state.snapshot.when_updated())
    await asyncio.sleep(0)
    await state.close()
    assert await following == [1]
    for task in (waiting, watching):
        with pytest.raises(UsageError, match="closed"):
            await task


async def test_who_waits_for_a_first_value_is_woken_too() -> None:
    async def never() -> int:
        await asyncio.Event().wait()
        return 1

    state = ComputedState(never)
    state.start()
    reading = asyncio.create_task(_value_of(state))
    waiting = asyncio.create_task(state.when(bool))
    await asyncio.sleep(0)
    await state.close()
    with pytest.raises(UsageError, match="closed"):
        await waiting
    with pytest.raises((UsageError, asyncio.CancelledError)):
        await reading


async def _value_of(state: ComputedState[int]) -> int:
    return await state


async def test_closing_twice_and_at_once_does_no_harm() -> None:
    state = state_of(MutableState(1))
    async with state:
        await asyncio.gather(state.close(), state.close())
        await state.close()
    await state.close()
    unstarted = state_of(MutableState(1))
    await unstarted.close()
    await unstarted.close()
    with pytest.raises(UsageError, match="closed"):
        await unstarted.when(bool)


async def test_the_last_value_stays_readable_after_the_end() -> None:
    source = MutableState(1)
    async with state_of(source) as state:
        assert await state == 1
    source.set(2)
    assert state.value == 1
    assert state.error is None
    assert state.snapshot.last_value == 1
    assert [computed.value async for computed in state.changes()] == [1]
    state.update_now()
    state.invalidate()
    assert state.value == 1


def test_closing_ends_a_delay_in_progress_whatever_it_is() -> None:
    class Stubborn:
        async def delay(self, retry_count: int) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return  # which it should not

    async def main() -> None:
        for delayer in (FixedDelayer(3600.0), CutShortDelayer(FixedDelayer(3600.0), UserActions()), Stubborn()):
            source = MutableState(1)
            state = state_of(source)
            state.update_delayer = delayer
            async with state:
                await state.when(bool)
                source.set(2)
                await asyncio.sleep(1)
            assert state.value == 1
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)

    run_in_virtual_time(main())


async def test_a_state_may_be_closed_by_its_own_computation() -> None:
    async def compute() -> int:
        await state.close()
        return 1

    state = ComputedState(compute)
    state.start()
    with pytest.raises(UsageError, match="closed"):
        await state.when(bool)
    await state.close()


def test_a_state_may_be_closed_by_its_own_delayer() -> None:
    returned: list[bool] = []

    class Closing:
        async def delay(self, retry_count: int) -> None:
            await state.close()
            returned.append(state.is_closed)

    source = MutableState(1)
    state = state_of(source)
    state.update_delayer = Closing()

    async def main() -> None:
        async with state:
            await state.when(bool)
            source.set(2)
            with pytest.raises(UsageError, match="closed"):
                await state.when(lambda value: value == 2)
        assert state.value == 1
        assert returned == [True]

    run_in_virtual_time(main())


async def test_what_ends_after_the_state_was_closed_is_not_shown() -> None:
    closings: list[asyncio.Task[None]] = []
    gate = asyncio.Event()

    async def compute() -> int:
        await gate.wait()
        closings.append(asyncio.create_task(state.close()))  # which begins before the reader has gone on
        return 1

    state = ComputedState(compute)
    reading = asyncio.create_task(_value_of(state))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    assert await reading == 1
    await closings[0]
    assert state.snapshot.is_initial
    with pytest.raises(UsageError, match="closed"):
        await state.snapshot.when_updated()


async def test_a_state_that_depends_on_a_closed_one_gets_a_clear_error() -> None:
    class Labels(ComputeService):
        @compute_method
        async def label(self) -> str:
            return f"<{await state}>"

    graph, labels = Graph(), Labels()
    attach(labels, GraphHosting(graph))
    async with state_of(MutableState(1)) as state:
        assert await labels.label() == "<1>"
    with pytest.raises(UsageError, match="closed"):
        await labels.label()
    await graph.close()


@pytest.mark.parametrize("phase", ["computing", "idle", "delayed", "new"])
def test_a_state_whose_event_loop_ends_says_nothing_and_is_closed(phase: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    source = MutableState(0)
    states: list[ComputedState[int]] = []

    async def main() -> None:
        async def compute() -> int:
            value = source.value
            if phase == "computing":
                await asyncio.Event().wait()
            return value

        state = ComputedState(compute, update_delayer=FixedDelayer(3600.0))
        states.append(state)
        state.start()
        if phase in ("idle", "delayed"):
            await state.when(lambda value: value == 0)
        if phase == "delayed":
            source.set(1)
        if phase != "new":
            await asyncio.sleep(1)

    run_in_virtual_time(main())
    state = states.pop()
    assert state.is_closed
    asyncio.run(state.close())
    del state
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_state_whose_event_loop_is_closed_under_it_says_nothing(
    caplog: pytest.LogCaptureFixture, *, is_closed: bool
) -> None:
    source = MutableState(0)

    async def main() -> ComputedState[int]:
        state = state_of(source)
        state.start()
        await state.when(lambda value: value == 0)
        return state

    loop = VirtualTimeLoop()
    state = loop.run_until_complete(main())
    loop.close()
    if is_closed:
        asyncio.run(state.close())
        source.set(1)
    assert state.value == 0
    del state, loop
    gc.collect()
    assert not caplog.records


async def test_a_cancelled_reader_leaves_the_state_as_it_is() -> None:
    source = MutableState(0)
    async with state_of(source) as state:
        await state.when(lambda value: value == 0)
        waiting = asyncio.create_task(state.when(lambda value: value == 1))
        other = asyncio.create_task(state.when(lambda value: value == 1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        source.set(1)
        assert (await other).value == 1
