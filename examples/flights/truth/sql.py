"""Every board and total as one query over the final tables.

Independent of the services on purpose: no SQLAlchemy, no buckets, no Python arithmetic; sqlite3 and SQL alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from examples.flights.values import Arrival, Departure, Totals

SUMS = """
    COUNT(*),
    SUM(departure IS NOT NULL),
    SUM(arrival IS NOT NULL AND NOT is_diverted),
    SUM(is_diverted),
    SUM(is_cancelled),
    COALESCE(SUM(departure - scheduled_departure), 0),
    COALESCE(SUM(CASE WHEN NOT is_diverted THEN arrival - scheduled_arrival END), 0)
"""

DEPARTURES = """
    SELECT flight_id, day, carrier || number, carrier, tail_number, origin, destination, {scheduled}, {actual},
           departure - scheduled_departure,
           CASE WHEN is_cancelled THEN 'cancelled' WHEN departure IS NULL THEN 'scheduled' ELSE 'departed' END
    FROM flights WHERE origin = ? AND day = ? ORDER BY scheduled_departure, flight_id
"""

ARRIVALS = """
    SELECT flight_id, carrier || number, origin, {scheduled},
           CASE WHEN arrival IS NULL AND NOT is_diverted AND departure IS NOT NULL THEN {expected} END,
           {actual},
           CASE WHEN NOT is_diverted THEN arrival - scheduled_arrival END,
           CASE WHEN is_diverted THEN 'diverted' WHEN arrival IS NOT NULL THEN 'arrived'
                WHEN is_cancelled THEN 'cancelled' WHEN departure IS NULL THEN 'scheduled' ELSE 'departed' END
    FROM flights WHERE destination = ? AND day = ? ORDER BY scheduled_arrival, flight_id
"""


class Truth:
    """Queries over one database file; made by `open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Truth]:
        """Read the database; others may write it meanwhile."""
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)
        try:
            yield cls(connection)
        finally:
            connection.close()

    def network(self, day: date) -> Totals:
        """All flights of the day."""
        return self._totals("day = ?", day.isoformat())

    def month(self, year: int, month: int) -> Totals:
        """All flights of the month."""
        return self._totals("substr(day, 1, 7) = ?", f"{year:04}-{month:02}")

    def year(self, year: int) -> Totals:
        """All flights of the year."""
        return self._totals("substr(day, 1, 4) = ?", f"{year:04}")

    def by_origin(self, day: date) -> dict[str, Totals]:
        """By the airport that flights leave."""
        return self._grouped("origin", day)

    def by_destination(self, day: date) -> dict[str, Totals]:
        """By the airport that flights go to."""
        return self._grouped("destination", day)

    def by_carrier(self, day: date) -> dict[str, Totals]:
        """By carrier."""
        return self._grouped("carrier", day)

    def by_route(self, day: date) -> dict[str, Totals]:
        """By route."""
        return self._grouped("origin || '-' || destination", day)

    def by_aircraft(self, day: date) -> dict[str, Totals]:
        """By tail number, of the flights that have one."""
        return self._grouped("tail_number", day)

    def departures_board(self, airport: str, day: date) -> tuple[Departure, ...]:
        """The flights that leave an airport, in the order they should."""
        query = DEPARTURES.format(scheduled=_clock("scheduled_departure"), actual=_clock("departure"))
        rows = self._connection.execute(query, (airport, day.isoformat()))
        return tuple(Departure(flight_id, date.fromisoformat(on), *rest) for flight_id, on, *rest in rows)

    def arrivals_board(self, airport: str, day: date) -> tuple[Arrival, ...]:
        """The flights that go to an airport, in the order they should arrive."""
        query = ARRIVALS.format(
            scheduled=_clock("scheduled_arrival"),
            expected=_clock("(scheduled_arrival + departure - scheduled_departure)"),
            actual=_clock("arrival"),
        )
        return tuple(Arrival(*row) for row in self._connection.execute(query, (airport, day.isoformat())))

    def flown(self, day: date) -> list[tuple[object, ...]]:
        """What happened to each flight of a day: equal in the working copy and the complete file after a replay."""
        query = """SELECT flight_id, departure, arrival, is_cancelled, is_diverted FROM flights
                   WHERE day = ? ORDER BY flight_id"""
        return self._connection.execute(query, (day.isoformat(),)).fetchall()

    def _totals(self, where: str, argument: str) -> Totals:
        row = self._connection.execute(f"SELECT {SUMS} FROM flights WHERE {where}", (argument,)).fetchone()
        return Totals(*(number or 0 for number in row))

    def _grouped(self, by: str, day: date) -> dict[str, Totals]:
        query = f"SELECT {by} AS bucket, {SUMS} FROM flights WHERE day = ? AND bucket IS NOT NULL GROUP BY bucket"
        return {row[0]: Totals(*row[1:]) for row in self._connection.execute(query, (day.isoformat(),))}


def _clock(minute: str) -> str:
    """SQL for a minute since midnight as people write it; NULL stays NULL."""
    text = f"printf('%02d:%02d', ({minute}) % 1440 / 60, ({minute}) % 60)"
    days = f"CASE WHEN ({minute}) >= 1440 THEN '+' || (({minute}) / 1440) ELSE '' END"
    return f"CASE WHEN ({minute}) IS NOT NULL THEN {text} || {days} END"
