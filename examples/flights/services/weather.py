"""The weather."""

from __future__ import annotations

from datetime import date

from sqlalchemy import select

from examples.flights import schema
from examples.flights.values import Weather
from fusion_cluster import ComputeService, Database, compute_method

COLUMNS = schema.weather.columns


class WeatherReports(ComputeService):
    """The weather at the airports that flights leave."""

    database: Database

    @compute_method
    async def at(self, airport: str, day: date, hour: int) -> Weather | None:
        """The weather in an hour of the airport's clock, or None when nothing was reported.

        The hour that comes twice when summer time ends is answered by its first.
        """
        query = (
            select(schema.weather)
            .where(COLUMNS.airport == airport, COLUMNS.day == day, COLUMNS.hour == hour)
            .order_by(COLUMNS.observed_at)
            .limit(1)
        )
        async with self.database.session() as session:
            row = (await session.execute(query)).mappings().one_or_none()
        if row is None:
            return None
        return Weather(**{name: value for name, value in row.items() if name not in ("day", "hour")})
