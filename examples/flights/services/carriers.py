"""The carriers and their totals, made of hours."""

from __future__ import annotations

from datetime import date

from examples.flights import schema
from examples.flights.services.flights import Flights
from examples.flights.services.schedule import Schedule
from examples.flights.values import Carrier, Totals, sum_totals, totals_of
from fusion_cluster import ComputeService, Database, compute_method, gather


class Carriers(ComputeService):
    """The airlines by their two-letter codes."""

    database: Database
    flights: Flights
    schedule: Schedule

    @compute_method
    async def get(self, carrier: str) -> Carrier | None:
        """The carrier, or None when the code is not known."""
        row = await self.database.loader(schema.airlines).load(carrier)
        return None if row is None else Carrier(row["carrier"], row["name"])

    @compute_method
    async def totals_at(self, carrier: str, day: date, hour: int) -> Totals:
        """The sums over the carrier's flights that are scheduled to leave in an hour."""
        flight_ids = await self.schedule.carried(carrier, day, hour)
        return totals_of(await gather(*(self.flights.get(flight_id) for flight_id in flight_ids)))

    @compute_method
    async def totals(self, carrier: str, day: date) -> Totals:
        """The sums over the carrier's flights of a day."""
        hours = await self.schedule.carrier_hours(carrier, day)
        return sum_totals(await gather(*(self.totals_at(carrier, day, hour) for hour in hours)))
