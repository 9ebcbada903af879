"""Timing: counts, totals and quantiles, without losing a call or growing."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusion_cluster import App, UsageError
from fusion_cluster.middleware import Call, Timing
from fusion_cluster.middleware.timing import BUCKETS
from tests.unit.middleware.bakery import Bakery, baking


class Clock:
    """Goes on by what it is told each call takes."""

    def __init__(self, *durations_s: float) -> None:
        self.now_s = 100.0
        self.durations_s = list(durations_s)
        self.is_running = False

    def __call__(self) -> float:
        if self.is_running:
            self.now_s += self.durations_s.pop(0)
        self.is_running = not self.is_running
        return self.now_s


async def nothing(_call: Call) -> Any:
    return None


async def timed(*durations_s: float) -> Timing:
    """A timing of one command that took so long, time after time."""
    timing = Timing(clock=Clock(*durations_s))
    call = Call("command", Bakery(), "Bakery", "order")
    for _ in durations_s:
        await timing(call, nothing)
    return timing


async def test_a_call_is_counted_by_how_it_ends() -> None:
    timing = Timing()
    async with baking(timing) as bakery:
        bakery.errors = [LookupError("none left")]
        with pytest.raises(LookupError):
            await bakery.order("roll")
        assert await bakery.order("roll") == "one roll for nobody"
        run = asyncio.ensure_future(bakery.close())
        await bakery.entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    order, close = timing.methods["Bakery.order"], timing.methods["Bakery.close"]
    assert (order.kind, order.count, order.error_count, order.cancelled_count) == ("command", 2, 1, 0)
    assert (close.count, close.error_count, close.cancelled_count) == (1, 0, 1)


async def test_the_count_of_a_compute_method_is_how_often_it_was_computed() -> None:
    timing = Timing()
    async with baking(timing) as bakery:
        for _ in range(5):
            await bakery.total("roll")
        assert {name: times.count for name, times in timing.methods.items()} == {"Bakery.total": 1, "Bakery.price": 1}
        assert timing.methods["Bakery.total"].total_s >= timing.methods["Bakery.price"].total_s


async def test_totals_and_the_longest_are_exact() -> None:
    times = (await timed(0.5, 0.25, 2.0, 0.25)).methods["Bakery.order"]
    assert (times.count, times.total_s, times.mean_s, times.max_s) == (4, 3.0, 0.75, 2.0)


async def test_quantiles_are_at_most_a_fifth_too_high() -> None:
    durations_s = [0.001 * number for number in range(1, 1001)]
    times = (await timed(*durations_s)).methods["Bakery.order"]
    for share in (0.01, 0.1, 0.5, 0.9, 0.99, 0.999):
        exact_s = durations_s[math.ceil(share * 1000) - 1]
        assert exact_s * (1 - 1e-9) <= times.quantile_s(share) <= 1.19 * exact_s
    assert times.quantile_s(1) == times.max_s == pytest.approx(1.0)
    assert times.quantile_s(0) <= 0.0012


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e-9, 1e-6, 1.000001e-6, 1.0, 5000.0, 1e9])
async def test_whatever_a_clock_says_is_counted_once(duration_s: float) -> None:
    times = (await timed(duration_s)).methods["Bakery.order"]
    ((bound_s, count),) = times.histogram()
    assert count == 1
    assert duration_s <= bound_s * (1 + 1e-9)


async def test_a_histogram_holds_every_call() -> None:
    times = (await timed(*(10 ** (0.1 * exponent) for exponent in range(-90, 50)))).methods["Bakery.order"]
    bounds_s = [bound_s for bound_s, _ in times.histogram()]
    assert bounds_s == sorted(bounds_s)
    assert sum(count for _, count in times.histogram()) == times.count == 140
    assert len(bounds_s) <= BUCKETS


async def test_the_table_has_what_took_most_time_first() -> None:
    timing = Timing(clock=Clock(0.25, 0.5, 0.25))
    async with baking(timing) as bakery:
        await bakery.price("roll")
        await bakery.order("roll")
        await bakery.order("cake")
    assert timing.table().splitlines() == [
        "method        kind     calls  errors  cancelled  total ms     mean      p50      p99      max",
        "Bakery.order  command      2       0          0     750.0  375.000  262.144  500.000  500.000",
        "Bakery.price  compute      1       0          0     250.0  250.000  250.000  250.000  250.000",
    ]


async def test_it_begins_anew_when_it_is_told_to() -> None:
    timing = await timed(0.5)
    timing.reset()
    assert timing.methods == {}
    assert timing.table().split()[:2] == ["method", "kind"]


async def test_a_share_is_between_0_and_1() -> None:
    times = (await timed(0.5)).methods["Bakery.order"]
    with pytest.raises(UsageError, match="share must be a number from 0 to 1"):
        times.quantile_s(99)


def test_one_app_in_several_threads_is_one_timing() -> None:
    timing = Timing()
    app = App("bakery", services=[Bakery], middleware=[timing])

    def use(_: int) -> None:
        with app.local_blocking() as host:
            order: Any = host.service(Bakery).order
            for _ in range(50):
                order("roll")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    assert timing.methods["Bakery.order"].count == 200
