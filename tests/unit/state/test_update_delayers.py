"""A.20: how long the delayers wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from random import Random

import pytest

from fusion_cluster import UsageError
from fusion_cluster.state import BackoffDelayer, CutShortDelayer, FixedDelayer, UpdateDelayer, UserActions
from fusion_cluster.testing import run_in_virtual_time

NO_JITTER = BackoffDelayer(first_retry_delay_s=0.5, factor=3.0, max_retry_delay_s=10.0, jitter=0.0)


def waits_s(delayer: UpdateDelayer, retry_counts: list[int]) -> list[float]:
    async def main() -> list[float]:
        loop, waits = asyncio.get_running_loop(), []
        for retry_count in retry_counts:
            began_s = loop.time()
            await delayer.delay(retry_count)
            waits.append(loop.time() - began_s)
        return waits

    return run_in_virtual_time(main())


def test_a_fixed_delayer_waits_the_same_each_time_and_the_longer_of_both_before_a_retry() -> None:
    assert waits_s(FixedDelayer(), [0, 1, 2, 9]) == pytest.approx([0, 1, 1, 1])
    assert waits_s(FixedDelayer(3.0), [0, 0, 1]) == pytest.approx([3, 3, 3])
    assert waits_s(FixedDelayer(0.5, retry_delay_s=2.0), [0, 1]) == pytest.approx([0.5, 2])


def test_a_retry_waits_longer_by_the_factor_each_time_up_to_the_cap_and_a_success_begins_anew() -> None:
    assert waits_s(NO_JITTER, [0, 1, 2, 3, 4, 5, 0, 1]) == pytest.approx([0, 0.5, 1.5, 4.5, 10, 10, 0, 0.5])
    assert BackoffDelayer(jitter=0.0).retry_delay_s(100_000) == 60.0


def test_a_retry_waits_no_less_than_any_update() -> None:
    patient = BackoffDelayer(delay_s=2.0, first_retry_delay_s=0.5, factor=3.0, jitter=0.0)
    assert waits_s(patient, [0, 1, 2, 3]) == pytest.approx([2, 2, 2, 4.5])


def test_jitter_spreads_the_retries_around_the_delay_and_never_beyond_the_cap() -> None:
    delayer = BackoffDelayer(
        first_retry_delay_s=1.0, factor=2.0, max_retry_delay_s=4.0, jitter=0.25, random=Random(7).random
    )
    for retry_count, shortest_s, longest_s in [(1, 0.75, 1.25), (2, 1.5, 2.5), (3, 3.0, 4.0), (50, 3.0, 4.0)]:
        delays_s = [delayer.retry_delay_s(retry_count) for _ in range(1000)]
        assert min(delays_s) >= shortest_s
        assert max(delays_s) <= longest_s
        fifth_s = (longest_s - shortest_s) / 5  # the range is made use of
        assert min(delays_s) < shortest_s + fifth_s
        assert max(delays_s) > longest_s - fifth_s


def test_those_who_failed_together_do_not_try_again_together() -> None:
    delayer = BackoffDelayer()
    assert len({delayer.retry_delay_s(1) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("delay_s", lambda: FixedDelayer(-1.0)),
        ("delay_s", lambda: FixedDelayer(math.nan)),
        ("retry_delay_s", lambda: FixedDelayer(retry_delay_s=-1.0)),
        ("delay_s", lambda: BackoffDelayer(delay_s=-1.0)),
        ("first_retry_delay_s", lambda: BackoffDelayer(first_retry_delay_s=-1.0)),
        ("factor", lambda: BackoffDelayer(factor=0.5)),
        ("max_retry_delay_s", lambda: BackoffDelayer(first_retry_delay_s=10.0, max_retry_delay_s=9.0)),
        ("jitter", lambda: BackoffDelayer(jitter=1.5)),
        ("jitter", lambda: BackoffDelayer(jitter=math.nan)),
        ("min_delay_s", lambda: CutShortDelayer(FixedDelayer(), UserActions(), min_delay_s=-1.0)),
        ("min_retry_delay_s", lambda: CutShortDelayer(FixedDelayer(), UserActions(), min_retry_delay_s=-1.0)),
        ("instant_period_s", lambda: UserActions(instant_period_s=-1.0)),
    ],
)
def test_numbers_out_of_their_range_are_refused_by_name(field: str, make: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert refused.value.field == field
