"""The real data: what is in the tables against what the CSV file says."""

from __future__ import annotations

import csv
import io
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import zip_longest
from pathlib import Path

import pytest

from examples.flights.clock import MINUTES_PER_DAY
from examples.flights.dataset.errors import FlightsDataError
from examples.flights.dataset.folder import DEFAULT_DAY, cache_folder
from examples.flights.dataset.loading import load_flights
from examples.flights.dataset.source import data_folder
from examples.flights.dataset.working_copy import make_working_copy
from examples.flights.replay.events import FlightEvent, events_of
from examples.flights.truth.sql import Truth
from examples.flights.values import Totals


@pytest.fixture(scope="module")
def complete() -> Path:
    return load_flights(cache_folder())


@pytest.fixture(scope="module")
def working_copy(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_working_copy(complete, DEFAULT_DAY, tmp_path_factory.mktemp("replay") / "replay.db")


def csv_flights() -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8"))


def hhmm(minute: int | None) -> str:
    """A minute since midnight as the data writes it; at the end of a day midnight is 2400."""
    if minute is None:
        return "NA"
    clock = minute % MINUTES_PER_DAY or MINUTES_PER_DAY
    return str(clock // 60 * 100 + clock % 60)


def text(number: int | None) -> str:
    return "NA" if number is None else str(number)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_every_flight_can_be_written_back_as_the_data_has_it(complete: Path) -> None:
    differing: list[object] = []
    with closing(sqlite3.connect(complete)) as connection:
        rows = connection.execute("""
            SELECT day, carrier, number, tail_number, origin, destination, distance_miles, air_time_min,
                   scheduled_departure, scheduled_arrival, departure, arrival, is_diverted
            FROM flights ORDER BY flight_id""")
        for line, row in zip_longest(csv_flights(), rows):
            (day, carrier, number, tail, origin, destination, distance, air_time,
             scheduled_departure, scheduled_arrival, departure, arrival, is_diverted) = row  # fmt: skip
            written = {
                "dep_time": hhmm(departure),
                "sched_dep_time": hhmm(scheduled_departure),
                "dep_delay": text(None if departure is None else departure - scheduled_departure),
                "arr_time": hhmm(arrival),
                "sched_arr_time": hhmm(scheduled_arrival),
                "arr_delay": text(None if arrival is None or is_diverted else arrival - scheduled_arrival),
                "carrier": carrier,
                "flight": str(number),
                "tailnum": tail or "NA",
                "origin": origin,
                "dest": destination,
                "air_time": text(air_time),
                "distance": str(distance),
            }
            is_same_day = day == f"{line['year']}-{line['month']:0>2}-{line['day']:0>2}"
            if not is_same_day or any(line[name] != value for name, value in written.items()):
                differing.append((line, row))
    assert not differing[:3]


def test_all_rows_of_all_tables_are_there(complete: Path) -> None:
    counts = {table: query(complete, f"SELECT COUNT(*) FROM {table}")[0][0] for table in
              ("flights", "airlines", "airports", "planes", "weather")}  # fmt: skip
    assert counts == {"flights": 336_776, "airlines": 16, "airports": 1_462, "planes": 3_322, "weather": 26_115}


def test_every_flight_goes_from_and_to_an_airport_that_is_known(complete: Path) -> None:
    unknown = """SELECT DISTINCT code FROM (SELECT origin AS code FROM flights UNION SELECT destination FROM flights)
                 WHERE code NOT IN (SELECT code FROM airports)"""
    assert query(complete, unknown) == []


def test_arrivals_on_one_clock_agree_with_the_time_in_the_air(complete: Path) -> None:
    """Departure and arrival on New York's clock leave room for the air time and at most four hours on the ground."""
    on_ground = query(
        complete,
        """SELECT MIN(ground), MAX(ground) FROM
           (SELECT arrival - destination_offset_min - departure - air_time_min AS ground FROM flights
            WHERE NOT is_diverted AND arrival IS NOT NULL)""",
    )
    assert on_ground == [(5, 235)]


def test_the_totals_of_the_year_are_those_of_the_csv_file(complete: Path) -> None:
    expected: Counter[str] = Counter()
    for line in csv_flights():
        has_left, has_arrived = line["dep_time"] != "NA", line["arr_delay"] != "NA"
        expected.update(flights=1, departed=has_left, arrived=has_arrived, cancelled=not has_left)
        expected.update(diverted=has_left and not has_arrived)
        expected.update(departure_delay_min=int(line["dep_delay"]) if has_left else 0)
        expected.update(arrival_delay_min=int(line["arr_delay"]) if has_arrived else 0)
    with Truth.open(complete) as truth:
        assert truth.year(2013) == Totals(**expected)


def test_every_bucket_is_read_through_an_index(complete: Path) -> None:
    buckets = {
        "origin = 'JFK' AND day = '2013-07-10' AND scheduled_departure BETWEEN 600 AND 659": "flights_by_origin",
        "destination = 'LAX' AND day = '2013-07-10' AND scheduled_arrival BETWEEN 0 AND 59": "flights_by_destination",
        "carrier = 'UA' AND day = '2013-07-10' AND scheduled_departure BETWEEN 600 AND 659": "flights_by_carrier",
        "tail_number = 'N14228' AND day = '2013-07-10'": "flights_by_aircraft",
        "day = '2013-07-10'": "flights_by_day",
    }
    for where, index in buckets.items():
        plan = query(complete, f"EXPLAIN QUERY PLAN SELECT flight_id FROM flights WHERE {where}")
        assert index in str(plan), where


def test_a_working_copy_has_that_day_to_come_and_all_others_as_they_were(complete: Path, working_copy: Path) -> None:
    with Truth.open(complete) as known, Truth.open(working_copy) as copied:
        flights = known.network(DEFAULT_DAY).flights
        assert copied.network(DEFAULT_DAY) == Totals(flights=flights)
        assert copied.year(2013).flights == 336_776
        other_day = date(2013, 1, 15)
        assert copied.flown(other_day) == known.flown(other_day)
        assert known.network(DEFAULT_DAY).departed > 0


def test_a_day_without_flights_has_no_working_copy(complete: Path, tmp_path: Path) -> None:
    with pytest.raises(FlightsDataError, match="no flight is known on 2014-01-01"):
        make_working_copy(complete, date(2014, 1, 1), tmp_path / "replay.db")
    assert not list(tmp_path.iterdir())


def test_the_events_of_a_day_lead_from_the_working_copy_to_what_is_known(complete: Path, working_copy: Path) -> None:
    state: dict[object, list[object]] = {}
    with Truth.open(working_copy) as copied:
        for row in copied.flown(DEFAULT_DAY):
            state[row[0]] = list(row)
    for event in events_of(complete, DEFAULT_DAY):
        row_now = state[event.flight_id]
        if event.kind == "depart":
            row_now[1] = event.local_minute
        elif event.kind == "cancel":
            row_now[3] = 1
        else:
            row_now[2] = event.local_minute
            row_now[4] = int(event.kind == "divert")
    with Truth.open(complete) as known:
        assert [tuple(row) for row in state.values()] == known.flown(DEFAULT_DAY)


def test_events_come_in_time_order_and_a_flight_lands_after_it_left(complete: Path) -> None:
    events = events_of(complete, DEFAULT_DAY)
    assert [event.minute for event in events] == sorted(event.minute for event in events)
    seen: dict[int, list[FlightEvent]] = {}
    for event in events:
        seen.setdefault(event.flight_id, []).append(event)
    kinds = Counter(tuple(event.kind for event in of_flight) for of_flight in seen.values())
    assert kinds == {("depart", "arrive"): 846, ("depart", "divert"): 37, ("cancel",): 121}
    assert any(event.minute > MINUTES_PER_DAY for event in events if event.kind == "depart")
