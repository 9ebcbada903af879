"""The routes: the buckets that the airports' totals are made of."""

from __future__ import annotations

from datetime import date

from examples.flights.services.flights import Flights
from examples.flights.services.schedule import Schedule
from examples.flights.values import Flight, Totals, totals_of
from fusion_cluster import ComputeService, compute_method, gather


class Routes(ComputeService):
    """Routes are written "EWR-IAH"."""

    flights: Flights
    schedule: Schedule

    @compute_method
    async def board(self, route: str, day: date) -> tuple[Flight, ...]:
        """All flights of a route on a day.

        Raises:
            InvalidArgument: not two airports with a hyphen between.
        """
        flight_ids = await self.schedule.route(route, day)
        return tuple(await gather(*(self.flights.get(flight_id) for flight_id in flight_ids)))

    @compute_method
    async def totals(self, route: str, day: date) -> Totals:
        """The sums over the flights of a route on a day.

        Raises:
            InvalidArgument: not two airports with a hyphen between.
        """
        return totals_of(await self.board(route, day))
