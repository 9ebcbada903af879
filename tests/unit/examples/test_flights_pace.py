from __future__ import annotations

import pytest

from examples.flights.replay.pace import LONGEST_GAP_MIN, due_times_s


def test_the_last_event_is_due_when_the_time_is_over() -> None:
    assert due_times_s([300, 301, 303], 6.0) == pytest.approx([0.0, 2.0, 6.0])


def test_empty_hours_are_cut_short() -> None:
    assert due_times_s([0, LONGEST_GAP_MIN, 500], 10.0) == pytest.approx([0.0, 5.0, 10.0])


def test_without_a_time_to_take_everything_is_due_at_once() -> None:
    assert due_times_s([1, 2, 3], 0.0) == [0.0, 0.0, 0.0]


def test_events_of_one_minute_are_due_together() -> None:
    assert due_times_s([7, 7], 5.0) == [0.0, 0.0]
    assert due_times_s([], 5.0) == []
