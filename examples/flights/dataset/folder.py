"""Where the databases are kept."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

DATA_VARIABLE = "FUSION_FLIGHTS_DATA"
DATABASE_VARIABLE = "FUSION_FLIGHTS_DATABASE"


def cache_folder() -> Path:
    """`data/` in the checkout, or the folder that FUSION_FLIGHTS_DATA names."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser().absolute() if named else Path(__file__).resolve().parents[3] / "data"


def complete_path(folder: Path) -> Path:
    """The database with all that is known, never changed after it is loaded."""
    return folder / "flights.db"


def replay_path(folder: Path, day: date) -> Path:
    """The working copy in which that day is replayed."""
    return folder / f"replay-{day.isoformat()}.db"


def database_url(path: Path) -> str:
    """The URL of a database file, as `Database` takes it."""
    return f"sqlite:///{path}"


def served_url() -> str:
    """The database that `examples.flights:app` serves: FUSION_FLIGHTS_DATABASE, or the default day's working copy."""
    return os.environ.get(DATABASE_VARIABLE) or database_url(replay_path(cache_folder(), DEFAULT_DAY))


DEFAULT_DAY = date(2013, 7, 10)
"""A thunderstorm: 1,004 flights, 121 cancelled, 37 diverted, 28 that left after midnight, delays up to 634 minutes."""
