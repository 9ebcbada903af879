"""Which flights belong to what, by indexed queries: the buckets that boards and totals are made of.

The schedule does not move during a day; whoever depends on it keeps its list of flights and hears only of the flights.
A bucket that is asked for together with others, as the hours of a board or the routes of an airport are, comes with
them by one query.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import Column, ColumnElement, RowMapping, Select, select

from examples.flights import schema
from fusion_cluster import ComputeService, Database, compute_method
from fusion_cluster.errors import InvalidArgument

COLUMNS = schema.flights.columns


class Schedule(ComputeService):
    """Flights by airport, route, carrier and aircraft; hours are those of the local clock, 24 and more the next day."""

    database: Database

    @compute_method
    async def departures(self, airport: str, day: date, hour: int) -> tuple[int, ...]:
        """The flights scheduled to leave an airport in an hour, in that order."""
        flights = await self._flights(COLUMNS.scheduled_departure, {COLUMNS.origin: airport, COLUMNS.day: day})
        return tuple(row["flight_id"] for row in flights if row["scheduled_departure"] // 60 == hour)

    @compute_method
    async def departure_hours(self, airport: str, day: date) -> tuple[int, ...]:
        """The hours in which flights are scheduled to leave."""
        return await self._hours(COLUMNS.scheduled_departure, COLUMNS.origin == airport, COLUMNS.day == day)

    @compute_method
    async def arrivals(self, airport: str, day: date, hour: int) -> tuple[int, ...]:
        """The flights of a day scheduled to arrive at an airport in an hour, in that order."""
        flights = await self._flights(COLUMNS.scheduled_arrival, {COLUMNS.destination: airport, COLUMNS.day: day})
        return tuple(row["flight_id"] for row in flights if row["scheduled_arrival"] // 60 == hour)

    @compute_method
    async def arrival_hours(self, airport: str, day: date) -> tuple[int, ...]:
        """The hours in which flights of a day are scheduled to arrive."""
        return await self._hours(COLUMNS.scheduled_arrival, COLUMNS.destination == airport, COLUMNS.day == day)

    @compute_method
    async def carried(self, carrier: str, day: date, hour: int) -> tuple[int, ...]:
        """The flights of a carrier scheduled to leave in an hour, wherever."""
        flights = await self._flights(COLUMNS.scheduled_departure, {COLUMNS.carrier: carrier, COLUMNS.day: day})
        return tuple(row["flight_id"] for row in flights if row["scheduled_departure"] // 60 == hour)

    @compute_method
    async def carrier_hours(self, carrier: str, day: date) -> tuple[int, ...]:
        """The hours in which flights of a carrier are scheduled to leave."""
        return await self._hours(COLUMNS.scheduled_departure, COLUMNS.carrier == carrier, COLUMNS.day == day)

    @compute_method
    async def route(self, route: str, day: date) -> tuple[int, ...]:
        """The flights of a route ("EWR-IAH").

        Raises:
            InvalidArgument: not two airports with a hyphen between.
        """
        origin, hyphen, destination = route.partition("-")
        if not (origin and hyphen and destination):
            raise InvalidArgument(f"a route is written like EWR-IAH, not {route!r}", field="route")
        of_route = {COLUMNS.origin: origin, COLUMNS.destination: destination, COLUMNS.day: day}
        return tuple(row["flight_id"] for row in await self._flights(COLUMNS.scheduled_departure, of_route))

    @compute_method
    async def aircraft(self, tail_number: str, day: date) -> tuple[int, ...]:
        """The flights of an aircraft, in the order they are scheduled."""
        of_aircraft = {COLUMNS.tail_number: tail_number, COLUMNS.day: day}
        return tuple(row["flight_id"] for row in await self._flights(COLUMNS.scheduled_departure, of_aircraft))

    @compute_method
    async def routes_from(self, airport: str, day: date) -> tuple[str, ...]:
        """The routes that leave an airport."""
        query = select(COLUMNS.destination).where(COLUMNS.origin == airport, COLUMNS.day == day)
        return tuple(f"{airport}-{destination}" for destination in await self._distinct(query, COLUMNS.destination))

    @compute_method
    async def routes_to(self, airport: str, day: date) -> tuple[str, ...]:
        """The routes that end at an airport."""
        query = select(COLUMNS.origin).where(COLUMNS.destination == airport, COLUMNS.day == day)
        return tuple(f"{origin}-{airport}" for origin in await self._distinct(query, COLUMNS.origin))

    @compute_method
    async def origins(self, day: date) -> tuple[str, ...]:
        """The airports that flights of a day leave."""
        return await self._of_day(day, COLUMNS.origin)

    @compute_method
    async def destinations(self, day: date) -> tuple[str, ...]:
        """The airports that flights of a day go to."""
        return await self._of_day(day, COLUMNS.destination)

    @compute_method
    async def carriers(self, day: date) -> tuple[str, ...]:
        """The carriers that fly on a day."""
        return await self._of_day(day, COLUMNS.carrier)

    @compute_method
    async def tail_numbers(self, day: date) -> tuple[str, ...]:
        """The aircraft that are to fly on a day, as far as one is assigned."""
        return await self._of_day(day, COLUMNS.tail_number)

    async def _flights(self, order: Column[Any], bucket: dict[Column[Any], Any]) -> list[RowMapping]:
        loader = self.database.list_loader(schema.flights, by=tuple(bucket), order_by=(order, COLUMNS.flight_id))
        return await loader.load(tuple(bucket.values()))

    async def _hours(self, minute: ColumnElement[Any], *where: ColumnElement[bool]) -> tuple[int, ...]:
        hour = (minute // 60).label("hour")
        return await self._column(select(hour).where(*where).distinct().order_by(hour))

    async def _of_day(self, day: date, column: ColumnElement[Any]) -> tuple[str, ...]:
        return await self._distinct(select(column).where(COLUMNS.day == day, column.is_not(None)), column)

    async def _distinct(self, query: Select[Any], column: ColumnElement[Any]) -> tuple[str, ...]:
        return await self._column(query.distinct().order_by(column))

    async def _column(self, query: Select[Any]) -> tuple[Any, ...]:
        async with self.database.session() as session:
            return tuple((await session.scalars(query)).all())
