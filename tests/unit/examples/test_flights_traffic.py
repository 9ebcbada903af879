from __future__ import annotations

from collections.abc import Sequence

import pytest

from examples.flights.show.traffic import TrafficMeter, quantile
from fusion_cluster import App, ComputeService, compute_method


class Numbers(ComputeService):
    @compute_method
    async def double(self, number: int) -> int:
        return 2 * number


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_consistent_value_is_a_hit_and_any_other_a_miss() -> None:
    clock = Clock()
    meter = TrafficMeter(clock)
    async with App("numbers", [Numbers]).local() as host:
        double = host.service(Numbers).double
        assert [await meter.read(double(number)) for number in (1, 1, 1, 2)] == [2, 2, 2, 4]
    clock.now_s += 2.0
    traffic = meter.take(invalidations=10)
    assert (traffic.reads_per_s, traffic.hit_rate, traffic.invalidations_per_s) == (2.0, 0.5, 5.0)


async def test_each_take_tells_of_the_time_since_the_last() -> None:
    clock = Clock()
    meter = TrafficMeter(clock)

    async def execute(name: str, arguments: Sequence[object], command_id: str) -> object:
        clock.now_s += 0.25
        return len(arguments)

    timed = meter.timed(execute)
    assert await timed("Flights.cancel", (1,), "id") == 1
    traffic = meter.take(invalidations=100)
    assert (traffic.commands_per_s, traffic.command_p50_ms) == (4.0, 250.0)
    clock.now_s += 1.0
    later = meter.take(invalidations=40)
    assert (later.commands_per_s, later.reads_per_s, later.hit_rate) == (0.0, 0.0, 0.0)
    assert later.invalidations_per_s == 0.0, "a shard that restarted counts from zero"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_one_of_the_values(share: float, value: int) -> None:
    assert quantile([4, 1, 3, 2], share) == value
    assert quantile([], share) == 0.0
