"""Time limits of runs share timers, and each ends its own run."""

from __future__ import annotations

import asyncio

from fusion_cluster.commands import TimeLimits
from fusion_cluster.commands.time_limit import PRECISION_S, TimeLimit
from fusion_cluster.testing import run_in_virtual_time


async def ended_after_s(limits: TimeLimits, left_s: float) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        with TimeLimit(left_s, limits):
            await asyncio.sleep(100)
    except TimeoutError:
        return loop.time() - began_s
    raise AssertionError("there was no limit")


def test_each_run_is_ended_in_its_time() -> None:
    async def run() -> list[float]:
        limits = TimeLimits()
        return await asyncio.gather(*(ended_after_s(limits, left_s) for left_s in (0.5, 0.001, 0.5, -1.0, 7.0003)))

    for took_s, left_s in zip(run_in_virtual_time(run()), (0.5, 0.001, 0.5, 0.0, 7.0003), strict=True):
        assert left_s - 1e-6 <= took_s <= left_s + PRECISION_S + 1e-6


def test_a_run_that_has_ended_is_not_cancelled() -> None:
    async def run() -> None:
        limits = TimeLimits()
        with TimeLimit(0.01, limits):
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)

    run_in_virtual_time(run())


def test_limits_of_one_moment_share_a_timer_also_in_another_event_loop() -> None:
    limits = TimeLimits()

    async def run() -> int:
        count = 0
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(*args: object, **kwargs: object) -> asyncio.TimerHandle:
            nonlocal count
            count += 1
            return call_at(*args, **kwargs)  # type: ignore[arg-type]

        loop.call_at = counted  # type: ignore[method-assign]
        for _ in range(10):
            with TimeLimit(50.0, limits):
                pass
        before = count
        assert 0.01 <= await ended_after_s(limits, 0.01) < 1
        return before

    assert run_in_virtual_time(run()) == 1
    assert run_in_virtual_time(run()) == 1


def test_the_timer_of_another_event_loop_ends_no_run_here() -> None:
    limits = TimeLimits()

    async def with_limit(left_s: float, takes_s: float) -> None:
        with TimeLimit(left_s, limits):
            await asyncio.sleep(takes_s)

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(with_limit(0.05, 0))
        second.run_until_complete(with_limit(0.05, 0))
        first.run_until_complete(with_limit(1000.0, 0.1))  # the first loop's timer would end it
    finally:
        first.close()
        second.close()


def test_limits_that_are_not_in_force_any_more_take_no_room() -> None:
    async def run() -> int:
        limits = TimeLimits()
        for number in range(100):
            with TimeLimit(50.0 + number, limits):
                await asyncio.sleep(0)
        return len(limits._due)

    assert run_in_virtual_time(run()) == 0
