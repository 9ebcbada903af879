"""What the services answer: frozen values, each with all that its reader needs.

Times are texts on the local clock ("05:17", "00:15+1" on the next day), delays are minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

FlightStatus = Literal["scheduled", "departed", "arrived", "diverted", "cancelled"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What was planned of a flight; nothing moves it.

    Times are minutes since midnight of the day, on the clock of the origin and of the destination.
    """

    flight_id: int
    day: date
    carrier: str
    number: int
    tail_number: str | None
    origin: str
    destination: str
    scheduled_departure: int
    scheduled_arrival: int


@dataclass(frozen=True, slots=True)
class Flight:
    """A flight as a passenger asks for it.

    Attributes:
        flight_id: its number in the data.
        day: the day it is scheduled to leave.
        name: carrier and number, "UA1545".
        carrier: "UA".
        tail_number: its aircraft, or None when none was assigned.
        route: "EWR-IAH".
        origin: where it leaves.
        destination: where it is to arrive.
        status: how far it is.
        scheduled_departure: on the clock of the origin.
        departure: when it left, or None.
        departure_delay_min: how late it left, negative when early, or None.
        scheduled_arrival: on the clock of the destination.
        arrival: when it arrived, or None.
        arrival_delay_min: how late it arrived; None also when it was diverted.
    """

    flight_id: int
    day: date
    name: str
    carrier: str
    tail_number: str | None
    route: str
    origin: str
    destination: str
    status: FlightStatus
    scheduled_departure: str
    departure: str | None
    departure_delay_min: int | None
    scheduled_arrival: str
    arrival: str | None
    arrival_delay_min: int | None


@dataclass(frozen=True, slots=True)
class Departure:
    """One line of a departures board.

    Attributes:
        flight_id: its number in the data.
        day: the day it is scheduled to leave.
        flight: carrier and number.
        carrier: its code.
        tail_number: its aircraft, or None when none was assigned.
        origin: where it leaves.
        destination: where it goes.
        scheduled: when it should leave.
        actual: when it left, or None.
        delay_min: how late it left, or None.
        status: "scheduled", "departed" or "cancelled".
    """

    flight_id: int
    day: date
    flight: str
    carrier: str
    tail_number: str | None
    origin: str
    destination: str
    scheduled: str
    actual: str | None
    delay_min: int | None
    status: FlightStatus


@dataclass(frozen=True, slots=True)
class Arrival:
    """One line of an arrivals board.

    Attributes:
        flight_id: its number in the data.
        flight: carrier and number.
        origin: where it comes from.
        scheduled: when it should arrive.
        expected: when it is to be expected, given when it left; None before that and when it is not known.
        actual: when it arrived, or None.
        delay_min: how late it arrived, or None.
        status: how far it is.
    """

    flight_id: int
    flight: str
    origin: str
    scheduled: str
    expected: str | None
    actual: str | None
    delay_min: int | None
    status: FlightStatus


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over flights.

    Attributes:
        flights: how many are scheduled.
        departed: how many left.
        arrived: how many arrived where they should.
        diverted: how many landed elsewhere.
        cancelled: how many were cancelled.
        departure_delay_min: the sum over those that left; early ones count negative.
        arrival_delay_min: the sum over those that arrived.
    """

    flights: int = 0
    departed: int = 0
    arrived: int = 0
    diverted: int = 0
    cancelled: int = 0
    departure_delay_min: int = 0
    arrival_delay_min: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.flights + other.flights,
            self.departed + other.departed,
            self.arrived + other.arrived,
            self.diverted + other.diverted,
            self.cancelled + other.cancelled,
            self.departure_delay_min + other.departure_delay_min,
            self.arrival_delay_min + other.arrival_delay_min,
        )

    @property
    def mean_departure_delay_min(self) -> float | None:
        """Mean delay of those that left, or None when none did."""
        return self.departure_delay_min / self.departed if self.departed else None

    @property
    def mean_arrival_delay_min(self) -> float | None:
        """Mean delay of those that arrived, or None when none did."""
        return self.arrival_delay_min / self.arrived if self.arrived else None


def sum_totals(parts: Iterable[Totals]) -> Totals:
    """All the parts together."""
    return sum(parts, start=Totals())


def totals_of(flights: Iterable[Flight]) -> Totals:
    """The sums over those flights."""
    count = departed = arrived = diverted = cancelled = departure_delay_min = arrival_delay_min = 0
    for flight in flights:
        count += 1
        cancelled += flight.status == "cancelled"
        diverted += flight.status == "diverted"
        if flight.departure_delay_min is not None:
            departed += 1
            departure_delay_min += flight.departure_delay_min
        if flight.arrival_delay_min is not None:
            arrived += 1
            arrival_delay_min += flight.arrival_delay_min
    return Totals(count, departed, arrived, diverted, cancelled, departure_delay_min, arrival_delay_min)


@dataclass(frozen=True, slots=True)
class AirportTotals:
    """Both sides of an airport: flights that leave it and flights that go to it."""

    outbound: Totals = field(default_factory=Totals)
    inbound: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class Carrier:
    """An airline."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class Airport:
    """An airport: where it is and how far its clock, in winter, is ahead of UTC."""

    code: str
    name: str
    latitude: float
    longitude: float
    altitude_feet: int
    utc_offset_hours: int
    has_summer_time: bool
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class Plane:
    """An aircraft as its register describes it."""

    tail_number: str
    year: int | None
    type: str
    manufacturer: str
    model: str
    engines: int
    seats: int
    engine: str


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where an aircraft is, as far as the flights of a day tell.

    Attributes:
        tail_number: the aircraft.
        is_flying: whether it is under way.
        airport: where it stands; where it is heading when it flies; None when a diversion leaves that open.
        flight: the flight it is on, or that brought it there; None before its first departure.
    """

    tail_number: str
    is_flying: bool
    airport: str | None
    flight: str | None


@dataclass(frozen=True, slots=True)
class Weather:
    """The weather at an airport at an hour; None where nothing was measured."""

    airport: str
    observed_at: str
    temperature_f: float | None
    dew_point_f: float | None
    humidity_percent: float | None
    wind_direction_deg: int | None
    wind_speed_mph: float | None
    wind_gust_mph: float | None
    precipitation_inch: float | None
    pressure_mbar: float | None
    visibility_miles: float | None
