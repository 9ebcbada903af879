"""All airports and carriers of a day together."""

from __future__ import annotations

from datetime import date

from examples.flights.services.airports import Airports
from examples.flights.services.carriers import Carriers
from examples.flights.services.schedule import Schedule
from examples.flights.values import Totals, sum_totals
from fusion_cluster import ComputeService, compute_method, gather


class Network(ComputeService):
    """The network of a day."""

    airports: Airports
    carriers: Carriers
    schedule: Schedule

    @compute_method
    async def totals(self, day: date) -> Totals:
        """The sums over all flights of a day, made of the airports they leave."""
        return sum_totals((await self.by_origin(day)).values())

    @compute_method
    async def by_origin(self, day: date) -> dict[str, Totals]:
        """The sums by the airport that flights leave."""
        origins = await self.schedule.origins(day)
        totals = await gather(*(self.airports.outbound(airport, day) for airport in origins))
        return dict(zip(origins, totals, strict=True))

    @compute_method
    async def by_destination(self, day: date) -> dict[str, Totals]:
        """The sums by the airport that flights go to."""
        destinations = await self.schedule.destinations(day)
        totals = await gather(*(self.airports.inbound(airport, day) for airport in destinations))
        return dict(zip(destinations, totals, strict=True))

    @compute_method
    async def by_carrier(self, day: date) -> dict[str, Totals]:
        """The sums by carrier."""
        carriers = await self.schedule.carriers(day)
        totals = await gather(*(self.carriers.totals(carrier, day) for carrier in carriers))
        return dict(zip(carriers, totals, strict=True))
