"""Delays are cut short by what the user does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fusion_cluster.state import BackoffDelayer, ComputedState, CutShortDelayer, FixedDelayer, MutableState, UserActions
from fusion_cluster.testing import run_in_virtual_time


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def duration_s(wait: Coroutine[Any, Any, None]) -> float:
    began_s = now_s()
    await wait
    return now_s() - began_s


def reading(source: MutableState[int]) -> Callable[[], Coroutine[Any, Any, int]]:
    async def compute() -> int:
        return source.value

    return compute


def test_an_action_shows_its_effect_in_all_states_that_share_it() -> None:
    async def main() -> None:
        source, actions = MutableState(0), UserActions()
        shared = CutShortDelayer(FixedDelayer(60.0), actions)
        async with (
            ComputedState(reading(source), update_delayer=shared) as left,
            ComputedState(
                reading(source), update_delayer=CutShortDelayer(BackoffDelayer(delay_s=9.0), actions)
            ) as right,
            ComputedState(reading(source), update_delayer=FixedDelayer(60.0)) as stranger,
        ):
            for state in (left, right, stranger):
                await state.when(lambda value: value == 0)
            source.set(1)
            await asyncio.sleep(5)
            assert (left.value, right.value) == (0, 0)  # nobody has done anything
            actions.notify()
            await asyncio.gather(*(state.when(lambda value: value == 1) for state in (left, right)))
            assert now_s() == 5.0
            assert stranger.value == 0

    run_in_virtual_time(main())


def test_delays_are_instant_for_a_period_after_an_action_and_then_as_before() -> None:
    async def main() -> None:
        actions = UserActions(instant_period_s=0.3)
        delayer = CutShortDelayer(FixedDelayer(10.0), actions)
        assert not actions.are_delays_instant
        actions.notify()
        assert actions.are_delays_instant
        assert await duration_s(delayer.delay(0)) == 0.0
        await asyncio.sleep(0.29)
        assert await duration_s(delayer.delay(0)) == 0.0
        await asyncio.sleep(0.02)
        assert not actions.are_delays_instant
        assert await duration_s(delayer.delay(0)) == pytest.approx(10.0)

    run_in_virtual_time(main())


def test_delays_are_instant_for_as_long_as_an_action_lasts_and_for_the_period_after_it() -> None:
    async def main() -> None:
        actions = UserActions(instant_period_s=0.3)
        delayer = CutShortDelayer(FixedDelayer(10.0), actions)
        pending = asyncio.create_task(duration_s(delayer.delay(0)))
        await asyncio.sleep(1)
        async with actions.acting():
            assert await pending == pytest.approx(1.0)
            await asyncio.sleep(100)
            assert await duration_s(delayer.delay(0)) == 0.0
            with actions.acting():
                pass
            await asyncio.sleep(100)
            assert await duration_s(delayer.delay(0)) == 0.0  # the outer action lasts
        await asyncio.sleep(0.2)
        assert await duration_s(delayer.delay(0)) == 0.0
        await asyncio.sleep(0.2)
        assert await duration_s(delayer.delay(0)) == pytest.approx(10.0)

    run_in_virtual_time(main())


def test_an_action_that_fails_or_is_cancelled_is_over_too() -> None:
    async def main() -> None:
        actions = UserActions(instant_period_s=0.3)
        with pytest.raises(LookupError), actions.acting():
            raise LookupError
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), actions.acting():
                await asyncio.Event().wait()
        assert actions.are_delays_instant
        await asyncio.sleep(1)
        assert not actions.are_delays_instant

    run_in_virtual_time(main())


def test_no_delay_is_cut_below_its_minimum_nor_made_longer_by_it() -> None:
    async def main() -> None:
        actions = UserActions()
        delayer = CutShortDelayer(FixedDelayer(2.0, retry_delay_s=5.0), actions, min_delay_s=0.5, min_retry_delay_s=1.0)
        with actions.acting():
            assert await duration_s(delayer.delay(0)) == pytest.approx(0.5)
            assert await duration_s(delayer.delay(1)) == pytest.approx(1.0)
            assert await duration_s(
                CutShortDelayer(FixedDelayer(0.1), actions, min_delay_s=9.0).delay(0)
            ) == pytest.approx(0.1)
        await asyncio.sleep(10)
        pending = asyncio.create_task(duration_s(delayer.delay(1)))
        await asyncio.sleep(0.4)
        actions.notify()
        actions.notify()
        assert await pending == pytest.approx(1.0)

    run_in_virtual_time(main())


def test_what_fails_at_once_is_not_tried_without_end_while_an_action_lasts() -> None:
    async def main() -> None:
        attempts: list[float] = []

        async def compute() -> int:
            attempts.append(now_s())
            raise ConnectionError

        actions = UserActions()
        delayer = CutShortDelayer(FixedDelayer(0.0, retry_delay_s=30.0), actions)
        async with ComputedState(compute, update_delayer=delayer):
            await asyncio.sleep(20)
            assert attempts == [0.0]
            async with actions.acting():
                await asyncio.sleep(0.25)
        assert attempts == pytest.approx([0.0, 20.0, 20.1, 20.2])

    run_in_virtual_time(main())


def test_errors_of_the_delayer_within_come_through() -> None:
    class Failing:
        async def delay(self, retry_count: int) -> None:
            raise TimeoutError("of its own")

    async def main() -> None:
        actions = UserActions()
        for _ in range(2):
            with pytest.raises(TimeoutError, match="of its own"):
                await CutShortDelayer(Failing(), actions).delay(0)
            actions.notify()

    run_in_virtual_time(main())


def test_a_delay_that_is_cancelled_is_forgotten() -> None:
    async def main() -> None:
        actions = UserActions()
        pending = asyncio.create_task(CutShortDelayer(FixedDelayer(60.0), actions).delay(0))
        await asyncio.sleep(1)
        assert "1 delays" in repr(actions)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert "0 delays" in repr(actions)

    run_in_virtual_time(main())
