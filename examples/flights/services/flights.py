"""One flight: what was planned, its line on either board, and the commands that move it.

What a flight says is split by who has to hear of a change: an arrival moves `arrival` and the whole flight, and leaves
the departures board alone. A departure moves both lines, for it says when the arrival is to be expected.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import RowMapping, update

from examples.flights import schema
from examples.flights.clock import show_minute
from examples.flights.values import Arrival, Departure, Flight, Plan
from fusion_cluster import ComputeService, Database, Operation, command, compute_method
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import BoundComputeMethod

TABLE = schema.flights
COLUMNS = TABLE.columns

PLAN = (
    COLUMNS.flight_id,
    COLUMNS.day,
    COLUMNS.carrier,
    COLUMNS.number,
    COLUMNS.tail_number,
    COLUMNS.origin,
    COLUMNS.destination,
    COLUMNS.scheduled_departure,
    COLUMNS.scheduled_arrival,
)
"""What nothing moves."""


class Flights(ComputeService):
    """The flights by their number in the data."""

    database: Database

    @compute_method
    async def get(self, flight_id: int) -> Flight:
        """The whole flight.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        departure = await self.departure(flight_id)
        arrival = await self.arrival(flight_id)
        return Flight(
            flight_id=flight_id,
            day=departure.day,
            name=departure.flight,
            carrier=departure.carrier,
            tail_number=departure.tail_number,
            route=f"{departure.origin}-{departure.destination}",
            origin=departure.origin,
            destination=departure.destination,
            status=arrival.status,
            scheduled_departure=departure.scheduled,
            departure=departure.actual,
            departure_delay_min=departure.delay_min,
            scheduled_arrival=arrival.scheduled,
            arrival=arrival.actual,
            arrival_delay_min=arrival.delay_min,
        )

    @compute_method
    async def plan(self, flight_id: int) -> Plan:
        """What was planned.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        row = await self._row(flight_id)
        return Plan(**{column.name: row[column] for column in PLAN})

    @compute_method
    async def departure(self, flight_id: int) -> Departure:
        """Its line on the departures board of its origin.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        row = await self._row(flight_id)
        scheduled: int = row["scheduled_departure"]
        minute: int | None = row["departure"]
        return Departure(
            flight_id=flight_id,
            day=row["day"],
            flight=f"{row['carrier']}{row['number']}",
            carrier=row["carrier"],
            tail_number=row["tail_number"],
            origin=row["origin"],
            destination=row["destination"],
            scheduled=show_minute(scheduled),
            actual=None if minute is None else show_minute(minute),
            delay_min=None if minute is None else minute - scheduled,
            status="cancelled" if row["is_cancelled"] else "scheduled" if minute is None else "departed",
        )

    @compute_method
    async def arrival(self, flight_id: int) -> Arrival:
        """Its line on the arrivals board of its destination.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        departure = await self.departure(flight_id)
        row = await self._row(flight_id)
        scheduled: int = row["scheduled_arrival"]
        minute: int | None = row["arrival"]
        is_diverted: bool = row["is_diverted"]
        is_on_its_way = departure.delay_min is not None and minute is None and not is_diverted
        return Arrival(
            flight_id=flight_id,
            flight=departure.flight,
            origin=departure.origin,
            scheduled=show_minute(scheduled),
            expected=show_minute(scheduled + (departure.delay_min or 0)) if is_on_its_way else None,
            actual=None if minute is None else show_minute(minute),
            delay_min=None if minute is None or is_diverted else minute - scheduled,
            status="diverted" if is_diverted else departure.status if minute is None else "arrived",
        )

    @compute_method
    async def any_of(self, day: date) -> None:
        """Nothing; but what depends on it is invalidated by every command on a flight of that day.

        For sums that the database makes over a whole day without reading each flight through the graph.
        """

    @command
    async def depart(self, flight_id: int, departure: int) -> int:
        """The flight left.

        Args:
            flight_id: the flight.
            departure: when: minutes since midnight of its day, on the clock of its origin.

        Returns:
            Its delay in minutes.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        async with self.database.operation() as operation:
            plan = await self._change(operation, flight_id, self.departure, departure=departure)
            return operation.result(departure - int(plan["scheduled_departure"]))

    @command
    async def arrive(self, flight_id: int, arrival: int) -> int:
        """The flight arrived where it should.

        Args:
            flight_id: the flight.
            arrival: when: minutes since midnight of its day, on the clock of its destination.

        Returns:
            Its delay in minutes.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        async with self.database.operation() as operation:
            plan = await self._change(operation, flight_id, self.arrival, arrival=arrival, is_diverted=False)
            return operation.result(arrival - int(plan["scheduled_arrival"]))

    @command
    async def divert(self, flight_id: int, arrival: int | None) -> None:
        """The flight landed elsewhere first.

        Args:
            flight_id: the flight.
            arrival: when it reached its destination after all, as for `arrive`; None: it did not.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        async with self.database.operation() as operation:
            await self._change(operation, flight_id, self.arrival, arrival=arrival, is_diverted=True)

    @command
    async def cancel(self, flight_id: int) -> None:
        """The flight does not take place.

        Args:
            flight_id: the flight.

        Raises:
            InvalidArgument: there is no flight of that number.
        """
        async with self.database.operation() as operation:
            await self._change(operation, flight_id, self.departure, is_cancelled=True)

    async def _change(
        self,
        operation: Operation,
        flight_id: int,
        moved: BoundComputeMethod[[int], object],
        **values: int | bool | None,
    ) -> RowMapping:
        """Set columns of the flight's row; invalidate `moved` for it and what is summed over its day."""
        statement = update(TABLE).where(COLUMNS.flight_id == flight_id).values(**values).returning(*PLAN)
        plan = _known((await operation.session.execute(statement)).mappings().one_or_none(), flight_id)
        moved.invalidate(flight_id)
        self.any_of.invalidate(plan["day"])
        return plan

    async def _row(self, flight_id: int) -> RowMapping:
        """The flight's row; those that are asked for together, as a board does, come by one query."""
        return _known(await self.database.loader(TABLE).load(flight_id), flight_id)


def _known(row: RowMapping | None, flight_id: int) -> RowMapping:
    if row is None:
        raise InvalidArgument(f"there is no flight {flight_id}", field="flight_id")
    return row
