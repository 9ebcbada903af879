"""Days, months and years: sums that the database makes, a day at a time.

A day is one query over the day's index and hears of that day's commands through `Flights.any_of`. So a year of 336,776
flights is 365 cached days, of which a command moves one.
"""

from __future__ import annotations

import calendar
from datetime import date

from sqlalchemy import func, select

from examples.flights import schema
from examples.flights.services.flights import Flights
from examples.flights.values import Totals, sum_totals
from fusion_cluster import ComputeService, Database, compute_method, gather
from fusion_cluster.errors import InvalidArgument

COLUMNS = schema.flights.columns


class History(ComputeService):
    """The network over time."""

    database: Database
    flights: Flights

    @compute_method
    async def day(self, day: date) -> Totals:
        """The sums over all flights of a day."""
        await self.flights.any_of(day)
        has_landed = COLUMNS.is_diverted.is_(False)
        query = select(
            func.count(),
            func.count(COLUMNS.departure),
            func.count(COLUMNS.arrival).filter(has_landed),
            func.count().filter(COLUMNS.is_diverted),
            func.count().filter(COLUMNS.is_cancelled),
            func.coalesce(func.sum(COLUMNS.departure - COLUMNS.scheduled_departure), 0),
            func.coalesce(func.sum(COLUMNS.arrival - COLUMNS.scheduled_arrival).filter(has_landed), 0),
        ).where(COLUMNS.day == day)
        async with self.database.session() as session:
            return Totals(*(await session.execute(query)).one())

    @compute_method
    async def month(self, year: int, month: int) -> Totals:
        """The sums over all flights of a month (1 to 12).

        Raises:
            InvalidArgument: there is no such month.
        """
        if not (1 <= month <= 12 and 1 <= year <= 9999):
            raise InvalidArgument(f"there is no month {month} of {year}", field="month")
        days = range(1, calendar.monthrange(year, month)[1] + 1)
        return sum_totals(await gather(*(self.day(date(year, month, day)) for day in days)))

    @compute_method
    async def year(self, year: int) -> Totals:
        """The sums over all flights of a year (the data has 2013).

        Raises:
            InvalidArgument: there is no such year.
        """
        return sum_totals(await gather(*(self.month(year, month) for month in range(1, 13))))
