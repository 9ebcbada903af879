"""The tables: flights, and what they refer to.

All times are minutes since midnight of the flight's `day`: departures on the clock of the origin, arrivals on the
clock of the destination (`destination_offset_min` is what that clock is ahead of the origin's). A flight's state is in
what is known of it: `departure` and `arrival` are NULL until they happened. Every bucket that a service reads has its
index.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Date, Float, Index, Integer, MetaData, String, Table

SCHEMA_VERSION = 1
"""Written into each complete database; a file with another number is loaded anew."""

metadata = MetaData()

flights = Table(
    "flights",
    metadata,
    Column("flight_id", Integer, primary_key=True),  # the row's place in the data, from 1
    Column("day", Date, nullable=False),
    Column("carrier", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("tail_number", String),  # NULL: no aircraft was assigned
    Column("origin", String, nullable=False),
    Column("destination", String, nullable=False),
    Column("distance_miles", Integer, nullable=False),
    Column("air_time_min", Integer),
    Column("destination_offset_min", Integer, nullable=False),
    Column("scheduled_departure", Integer, nullable=False),
    Column("scheduled_arrival", Integer, nullable=False),
    Column("departure", Integer),
    Column("arrival", Integer),
    Column("is_cancelled", Boolean, nullable=False),
    Column("is_diverted", Boolean, nullable=False),  # its arrival, if any, has no delay
    Index("flights_by_origin", "origin", "day", "scheduled_departure"),
    Index("flights_by_destination", "destination", "day", "scheduled_arrival"),
    Index("flights_by_carrier", "carrier", "day", "scheduled_departure"),
    Index("flights_by_route", "origin", "destination", "day"),
    Index("flights_by_aircraft", "tail_number", "day"),
    Index("flights_by_day", "day"),
)

airlines = Table(
    "airlines",
    metadata,
    Column("carrier", String, primary_key=True),
    Column("name", String, nullable=False),
)

airports = Table(
    "airports",
    metadata,
    Column("code", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("altitude_feet", Integer, nullable=False),
    Column("utc_offset_hours", Integer, nullable=False),
    Column("has_summer_time", Boolean, nullable=False),
    Column("time_zone", String),
)

planes = Table(
    "planes",
    metadata,
    Column("tail_number", String, primary_key=True),
    Column("year", Integer),
    Column("type", String, nullable=False),
    Column("manufacturer", String, nullable=False),
    Column("model", String, nullable=False),
    Column("engines", Integer, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("engine", String, nullable=False),
)

weather = Table(
    "weather",
    metadata,
    Column("airport", String, primary_key=True),
    Column("observed_at", String, primary_key=True),  # UTC; the local hour comes twice when summer time ends
    Column("day", Date, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("temperature_f", Float),
    Column("dew_point_f", Float),
    Column("humidity_percent", Float),
    Column("wind_direction_deg", Integer),
    Column("wind_speed_mph", Float),
    Column("wind_gust_mph", Float),
    Column("precipitation_inch", Float),
    Column("pressure_mbar", Float),
    Column("visibility_miles", Float),
    Index("weather_by_hour", "airport", "day", "hour"),
)
