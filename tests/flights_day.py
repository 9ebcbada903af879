"""The real flights for tests: the complete database, fresh working copies of the default day, and flights of a kind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from examples.flights.dataset.folder import DEFAULT_DAY, cache_folder
from examples.flights.dataset.loading import load_flights
from examples.flights.dataset.working_copy import make_working_copy

DAY = DEFAULT_DAY

USUAL = "NOT is_cancelled AND NOT is_diverted AND tail_number IS NOT NULL AND origin = 'JFK' AND destination = 'LAX'"
CANCELLED = "is_cancelled"
LOST = "is_diverted AND arrival IS NULL"
DETOURED = "is_diverted AND arrival IS NOT NULL"
AFTER_MIDNIGHT = "departure >= 1440"


def complete_database() -> Path:
    """All that is known; loaded by the first test that needs it, where `make demo` keeps it."""
    return load_flights(cache_folder())


def fresh_copy(folder: Path) -> Path:
    """A working copy in which the day has not begun."""
    return make_working_copy(complete_database(), DAY, folder / "replay.db")


def flight_of_kind(where: str) -> int:
    """The first flight of the day that the data knows to be so."""
    query = f"SELECT flight_id FROM flights WHERE day = ? AND {where} ORDER BY flight_id LIMIT 1"
    with closing(sqlite3.connect(complete_database())) as connection:
        (flight_id,) = connection.execute(query, (DAY.isoformat(),)).fetchone()
    return int(flight_id)
