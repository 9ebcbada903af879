"""The database of a replay: all flights, with those of one day not yet flown.

The complete file is only read. The copy is made under another name and renamed: a file under its final name is whole.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

from examples.flights.dataset.errors import FlightsDataError, explained
from examples.flights.dataset.folder import replay_path
from examples.flights.dataset.loading import PARTIAL_SUFFIX, is_complete

UNDO_DAY = """
    UPDATE flights SET departure = NULL, arrival = NULL, air_time_min = NULL, is_cancelled = 0, is_diverted = 0
    WHERE day = ?
"""


def make_working_copy(complete: Path, day: date, path: Path | None = None) -> Path:
    """Copy the complete database and set that day's flights back to "scheduled".

    Args:
        complete: what `load_flights` gave.
        day: the day to replay.
        path: the copy; by default beside the complete file, named after the day. A copy that is there is replaced, so
            nothing may serve it meanwhile.

    Returns:
        The path of the copy.

    Raises:
        FlightsDataError: no flight is known on that day, the complete file is not complete, or the disk is full.
    """
    path = path or replay_path(complete.parent, day)
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    if not is_complete(complete):
        raise FlightsDataError(f"{complete} is not a complete database of the flights")
    try:
        with explained(path.parent):
            _copy(complete, partial)
            _undo_day(partial, day)
            for part in ("-wal", "-shm"):  # of the copy that is replaced: they would be applied to the new one
                path.with_name(path.name + part).unlink(missing_ok=True)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _copy(complete: Path, path: Path) -> None:
    with (
        closing(sqlite3.connect(f"{complete.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)


def _undo_day(path: Path, day: date) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        changed = connection.execute(UNDO_DAY, (day.isoformat(),)).rowcount
    if changed == 0:
        raise FlightsDataError(f"no flight is known on {day}: the data is of the year 2013")
