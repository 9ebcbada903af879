"""The virtual runtime: one time for clocks and timers, that of the event loop, and numbers from a seed."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.runtime import SYSTEM, VirtualRuntime
from fusion_cluster.testing import run_in_virtual_time


def test_clocks_go_with_the_timers_of_the_event_loop() -> None:
    async def main() -> None:
        runtime = VirtualRuntime(starts_at_s=1_000.0)
        clock = runtime.clock
        monotonic, wall, precise = clock.monotonic(), clock.wall(), clock.precise()
        await asyncio.sleep(3_600)
        assert clock.monotonic() - monotonic == pytest.approx(3_600)
        assert clock.wall() - wall == pytest.approx(3_600)
        assert clock.precise() - precise == pytest.approx(3_600)
        assert clock.wall() == pytest.approx(1_000.0 + asyncio.get_running_loop().time())

    began_s = SYSTEM.clock.monotonic()
    run_in_virtual_time(main())
    assert SYSTEM.clock.monotonic() - began_s < 600


def test_the_wall_clock_is_set_forward_and_back_and_the_monotonic_one_does_not_notice() -> None:
    async def main() -> None:
        runtime = VirtualRuntime()
        monotonic, wall = runtime.clock.monotonic(), runtime.clock.wall()
        for ahead_s in (86_400.0, -86_400.0):
            runtime.wall_clock.ahead_s = ahead_s
            assert runtime.clock.wall() - wall == pytest.approx(ahead_s)
            assert runtime.clock.monotonic() == pytest.approx(monotonic)

    run_in_virtual_time(main())


def test_the_numbers_come_from_the_seed() -> None:
    async def main() -> list[list[float]]:
        runtimes = [VirtualRuntime(seed) for seed in (3, 3, 4)]
        return [[runtime.entropy.random() for _ in range(5)] for runtime in runtimes]

    first, same, other = run_in_virtual_time(main())
    assert first == same
    assert first != other


def test_pauses_of_a_backoff_are_those_of_the_seed() -> None:
    async def main() -> list[list[float]]:
        backoffs = [VirtualRuntime(5).backoff(first_s=1, longest_s=10) for _ in range(2)]
        return [[backoff.next_s() for _ in range(4)] for backoff in backoffs]

    one, other = run_in_virtual_time(main())
    assert one == other


def test_a_loop_may_be_given_before_it_runs() -> None:
    loop = asyncio.new_event_loop()
    try:
        runtime = VirtualRuntime(loop=loop, starts_at_s=5.0)
        assert runtime.clock.monotonic() == pytest.approx(loop.time(), abs=60)
        assert runtime.clock.wall() == pytest.approx(5.0 + loop.time(), abs=60)
    finally:
        loop.close()
