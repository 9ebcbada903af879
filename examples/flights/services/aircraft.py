"""The aircraft: what they fly on a day and where they are."""

from __future__ import annotations

from datetime import date

from examples.flights import schema
from examples.flights.services.flights import Flights
from examples.flights.services.schedule import Schedule
from examples.flights.values import Flight, Plane, Totals, Whereabouts, totals_of
from fusion_cluster import ComputeService, Database, compute_method, gather


class Aircraft(ComputeService):
    """The aircraft by their tail numbers."""

    database: Database
    flights: Flights
    schedule: Schedule

    @compute_method
    async def get(self, tail_number: str) -> Plane | None:
        """The aircraft as its register describes it, or None: not all that fly are described."""
        row = await self.database.loader(schema.planes).load(tail_number)
        return None if row is None else Plane(**row)

    @compute_method
    async def legs(self, tail_number: str, day: date) -> tuple[Flight, ...]:
        """Its flights of a day, in the order they are scheduled."""
        flight_ids = await self.schedule.aircraft(tail_number, day)
        return tuple(await gather(*(self.flights.get(flight_id) for flight_id in flight_ids)))

    @compute_method
    async def totals(self, tail_number: str, day: date) -> Totals:
        """The sums over its flights of a day."""
        return totals_of(await self.legs(tail_number, day))

    @compute_method
    async def whereabouts(self, tail_number: str, day: date) -> Whereabouts:
        """Where it is, told by the last of its flights that left (the data has only flights out of New York)."""
        legs = await self.legs(tail_number, day)
        left = [leg for leg in legs if leg.departure is not None]
        if not left:
            first = next((leg for leg in legs if leg.status != "cancelled"), None)
            return Whereabouts(tail_number, is_flying=False, airport=first.origin if first else None, flight=None)
        last = left[-1]
        is_lost_track_of = last.status == "diverted" and last.arrival is None
        return Whereabouts(
            tail_number,
            is_flying=last.status == "departed",
            airport=None if is_lost_track_of else last.destination,
            flight=last.name,
        )
