"""The weather."""

from __future__ import annotations

from datetime import date

from examples.flights import schema
from examples.flights.values import Weather
from fusion_cluster import ComputeService, Database, compute_method

COLUMNS = schema.weather.columns
HOUR = (COLUMNS.airport, COLUMNS.day, COLUMNS.hour)


class WeatherReports(ComputeService):
    """The weather at the airports that flights leave."""

    database: Database

    @compute_method
    async def at(self, airport: str, day: date, hour: int) -> Weather | None:
        """The weather in an hour of the airport's clock, or None when nothing was reported.

        The hour that comes twice when summer time ends is answered by its first.
        """
        reports = self.database.list_loader(schema.weather, by=HOUR, order_by=COLUMNS.observed_at)
        for row in await reports.load((airport, day, hour)):
            return Weather(**{name: value for name, value in row.items() if name not in ("day", "hour")})
        return None
