"""What happened on a day, as the commands that say so.

Invariant: events are in the order of New York's clock, and those of one flight in the order they can only happen.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

EventKind = Literal["depart", "arrive", "divert", "cancel"]

KNOWN = """
    SELECT flight_id, scheduled_departure, scheduled_arrival, destination_offset_min, departure, arrival, is_cancelled,
           is_diverted
    FROM flights WHERE day = ?
"""


@dataclass(frozen=True, slots=True, order=True)
class FlightEvent:
    """One event of one flight.

    Attributes:
        minute: when it happened: minutes since midnight of the day in New York.
        flight_id: the flight.
        kind: the command's name.
        local_minute: the command's argument: minutes since midnight where it happened; None when it takes none.
    """

    minute: int
    flight_id: int
    kind: EventKind
    local_minute: int | None = None

    @property
    def command(self) -> str:
        """The full name of the command."""
        return f"Flights.{self.kind}"

    @property
    def arguments(self) -> tuple[int | None, ...]:
        """The command's arguments."""
        return (self.flight_id,) if self.kind == "cancel" else (self.flight_id, self.local_minute)


def events_of(complete: Path, day: date) -> list[FlightEvent]:
    """All events of a day's flights, in order.

    A cancellation is put at the time the flight should have left; a diversion that never reached its destination at
    the time it should have arrived, given its delay.

    Args:
        complete: the database with all that is known.
        day: the day the flights are scheduled to leave; the last events are on the next.
    """
    events: list[FlightEvent] = []
    with closing(sqlite3.connect(f"{complete.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        for row in connection.execute(KNOWN, (day.isoformat(),)):
            flight_id, scheduled_departure, scheduled_arrival, offset, departure, arrival, is_cancelled, is_diverted = (
                row
            )
            if is_cancelled:
                events.append(FlightEvent(scheduled_departure, flight_id, "cancel"))
                continue
            events.append(FlightEvent(departure, flight_id, "depart", departure))
            landing = scheduled_arrival + departure - scheduled_departure if arrival is None else arrival
            kind: EventKind = "divert" if is_diverted else "arrive"
            events.append(FlightEvent(landing - offset, flight_id, kind, arrival))
    return sorted(events, key=lambda event: (event.minute, event.flight_id))
