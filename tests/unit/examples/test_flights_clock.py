from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.flights.clock import MINUTES_PER_DAY, clock_minutes, next_time, show_minute


@pytest.mark.parametrize(("hhmm", "minutes"), [(1, 1), (15, 15), (517, 317), (1200, 720), (2359, 1439), (2400, 1440)])
def test_a_time_as_the_data_writes_it_is_minutes_since_midnight(hhmm: int, minutes: int) -> None:
    assert clock_minutes(hhmm) == minutes


@pytest.mark.parametrize(
    ("minute", "shown"), [(0, "00:00"), (317, "05:17"), (1439, "23:59"), (1440, "00:00+1"), (1455, "00:15+1")]
)
def test_a_minute_after_midnight_is_shown_on_the_next_day(minute: int, shown: str) -> None:
    assert show_minute(minute) == shown


@given(clock=st.integers(0, 1440), after=st.integers(0, 3000))
def test_the_next_time_is_the_first_later_minute_with_that_clock(clock: int, after: int) -> None:
    found = next_time(clock, after)
    assert after < found <= after + MINUTES_PER_DAY
    assert found % MINUTES_PER_DAY == clock % MINUTES_PER_DAY
