"""The airports: boards made of hours, totals made of routes."""

from __future__ import annotations

from datetime import date
from itertools import chain

from examples.flights import schema
from examples.flights.services.flights import Flights
from examples.flights.services.routes import Routes
from examples.flights.services.schedule import Schedule
from examples.flights.values import Airport, AirportTotals, Arrival, Departure, Totals, sum_totals
from fusion_cluster import ComputeService, Database, compute_method, gather


class Airports(ComputeService):
    """The airports by their three-letter codes; hours are those of the airport's clock, 24 and more the next day."""

    database: Database
    flights: Flights
    routes: Routes
    schedule: Schedule

    @compute_method
    async def get(self, airport: str) -> Airport | None:
        """The airport, or None when the code is not known."""
        row = await self.database.loader(schema.airports).load(airport)
        return None if row is None else Airport(**row)

    @compute_method
    async def departures_at(self, airport: str, day: date, hour: int) -> tuple[Departure, ...]:
        """The flights scheduled to leave in an hour."""
        flight_ids = await self.schedule.departures(airport, day, hour)
        return tuple(await gather(*(self.flights.departure(flight_id) for flight_id in flight_ids)))

    @compute_method
    async def departures_board(self, airport: str, day: date) -> tuple[Departure, ...]:
        """The flights scheduled to leave on a day."""
        hours = await self.schedule.departure_hours(airport, day)
        boards = await gather(*(self.departures_at(airport, day, hour) for hour in hours))
        return tuple(chain.from_iterable(boards))

    @compute_method
    async def arrivals_at(self, airport: str, day: date, hour: int) -> tuple[Arrival, ...]:
        """The flights of a day (the one they left on) scheduled to arrive in an hour."""
        flight_ids = await self.schedule.arrivals(airport, day, hour)
        return tuple(await gather(*(self.flights.arrival(flight_id) for flight_id in flight_ids)))

    @compute_method
    async def arrivals_board(self, airport: str, day: date) -> tuple[Arrival, ...]:
        """The flights of a day (the one they left on) that go to the airport."""
        hours = await self.schedule.arrival_hours(airport, day)
        boards = await gather(*(self.arrivals_at(airport, day, hour) for hour in hours))
        return tuple(chain.from_iterable(boards))

    @compute_method
    async def outbound(self, airport: str, day: date) -> Totals:
        """The sums over the flights that leave it."""
        routes = await self.schedule.routes_from(airport, day)
        return sum_totals(await gather(*(self.routes.totals(route, day) for route in routes)))

    @compute_method
    async def inbound(self, airport: str, day: date) -> Totals:
        """The sums over the flights that go to it."""
        routes = await self.schedule.routes_to(airport, day)
        return sum_totals(await gather(*(self.routes.totals(route, day) for route in routes)))

    @compute_method
    async def totals(self, airport: str, day: date) -> AirportTotals:
        """Both sides."""
        return AirportTotals(await self.outbound(airport, day), await self.inbound(airport, day))
