from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.flights.clock import read_minute, show_minute
from examples.flights.show.board import delay_text, lines_in_sight, remark_of
from examples.flights.values import Departure, FlightStatus


def line(scheduled: int, *, delay_min: int | None = None, status: FlightStatus = "scheduled") -> Departure:
    return Departure(
        flight_id=1,
        day=date(2013, 7, 10),
        flight="B6623",
        carrier="B6",
        tail_number="N706JB",
        origin="JFK",
        destination="LAX",
        scheduled=show_minute(scheduled),
        actual=None if delay_min is None else show_minute(scheduled + delay_min),
        delay_min=delay_min,
        status="departed" if delay_min is not None else status,
    )


@pytest.mark.parametrize(
    ("departure", "remark"),
    [
        (line(600, status="cancelled"), "cancelled"),
        (line(600, delay_min=3), "departed"),
        (line(600, delay_min=-4), "departed"),
        (line(600, delay_min=130), "departed +2:10 h"),
        (line(700), "on time"),
        (line(615), "boarding"),
        (line(600), "boarding"),
        (line(560), "delayed +45 min"),
    ],
)
def test_the_remark_says_what_a_passenger_wants_to_know_at_ten_past_ten(departure: Departure, remark: str) -> None:
    assert remark_of(departure, 605)[0] == remark


@pytest.mark.parametrize(
    ("delay_min", "text"), [(0, "+0 min"), (59, "+59 min"), (60, "+1:00 h"), (125, "+2:05 h"), (-7, "-7 min")]
)
def test_a_delay_is_told_as_people_tell_it(delay_min: int, text: str) -> None:
    assert delay_text(delay_min) == text


def test_the_board_begins_a_little_before_now() -> None:
    board = [line(minute) for minute in range(540, 720, 10)]
    assert [read_minute(seen.scheduled) for seen in lines_in_sight(board, 600, 4)] == [580, 590, 600, 610]


def test_at_the_end_of_the_board_earlier_lines_fill_the_room() -> None:
    board = [line(minute) for minute in (540, 550, 560)]
    assert lines_in_sight(board, 2_000, 2) == board[1:]
    assert lines_in_sight(board, 2_000, 5) == board
    assert lines_in_sight([], 600, 5) == []


@given(st.integers(0, 4_000))
def test_a_shown_minute_can_be_read_back(minute: int) -> None:
    assert read_minute(show_minute(minute)) == minute
