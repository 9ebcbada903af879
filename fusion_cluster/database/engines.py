"""SQLAlchemy engines: a pair for each event loop, one that reads and one that writes.

Reads are in autocommit mode: a read costs one statement and no BEGIN or ROLLBACK, and each statement sees what is
committed when it begins. SQLite is set up for several processes: WAL, so that readers and the writer do not wait for
each other; BEGIN IMMEDIATE for operations, so that two writers wait for each other at the beginning and do not fail
when the second upgrades its lock; one writing connection per process, so that its operations queue here, not in SQLite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from fusion_cluster.database.url import masked
from fusion_cluster.errors import UsageError

_SQLITE_READERS = 4
"""Connections, each with a thread, that read one SQLite file in one process and loop."""


@dataclass(frozen=True)
class Engines:
    """The engines of one database in one event loop."""

    reading: AsyncEngine
    writing: AsyncEngine

    async def dispose(self) -> None:
        """Close all connections that are not in use."""
        await self.reading.dispose()
        await self.writing.dispose()


def create_engines(url: URL, *, busy_timeout_s: float) -> Engines:
    """Engines for a URL; they connect when first used.

    Args:
        url: names an async driver.
        busy_timeout_s: how long an operation waits for its turn to write.

    Raises:
        UsageError: there is no such driver, it is not installed, or it is not async.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite_engines(url, busy_timeout_s)
    writing = _create(url, skip_autocommit_rollback=True, pool_pre_ping=True, pool_timeout=busy_timeout_s)
    return Engines(writing.execution_options(isolation_level="AUTOCOMMIT"), writing)


def _sqlite_engines(url: URL, busy_timeout_s: float) -> Engines:
    reading = _create(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,
        pool_size=_SQLITE_READERS,
        max_overflow=0,
        pool_timeout=busy_timeout_s,
    )
    writing = _create(url, pool_size=1, max_overflow=0, pool_timeout=busy_timeout_s)

    def set_up(connection: Any, *pragmas: str) -> None:
        connection.isolation_level = None  # BEGIN is ours, see below
        cursor = connection.cursor()
        for pragma in (f"busy_timeout = {int(busy_timeout_s * 1000)}", "synchronous = NORMAL", *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def on_writing_connection(connection: Any, record: object) -> None:
        set_up(connection, "foreign_keys = ON", "journal_mode = WAL")

    def on_reading_connection(connection: Any, record: object) -> None:
        set_up(connection, "query_only = ON")

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(reading.sync_engine, "connect", on_reading_connection)
    event.listen(writing.sync_engine, "connect", on_writing_connection)
    event.listen(writing.sync_engine, "begin", begin)
    return Engines(reading, writing)


def _create(url: URL, **options: Any) -> AsyncEngine:
    shown = masked(url.render_as_string())
    try:
        return create_async_engine(url, hide_parameters=True, **options)
    except NoSuchModuleError as error:
        raise UsageError(f"no database driver {url.drivername!r}, in {shown!r}", field="url") from error
    except ModuleNotFoundError as error:
        raise UsageError(f"the database {shown!r} needs the package {error.name!r}", field="url") from error
    except (InvalidRequestError, ArgumentError) as error:
        raise UsageError(f"the database {shown!r} cannot be used: {error}", field="url") from error
