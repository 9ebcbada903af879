"""The app of the `command` and `operation_log` benchmarks: rows that a command changes, and the same by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from benchmarks.caching_rows import StoredRow, fill
from fusion_cluster import App, ComputeService, Database, command, compute_method

__all__ = ["Changes", "Hand", "fill", "hand_with_an_engine_of_its_own", "hand_with_the_librarys_engine", "make_app"]

BUSY_TIMEOUT_S = 30


class Changes(ComputeService):
    database: Database

    @compute_method
    async def get(self, row_id: int) -> int:
        async with self.database.session() as session:
            return (await session.get_one(StoredRow, row_id)).changes

    @command
    async def change(self, row_id: int) -> None:
        async with self.database.operation() as operation:
            row = await operation.session.get_one(StoredRow, row_id)
            row.changes += 1
            self.get.invalidate(row_id)


def make_app(url: str) -> App:
    """The app over the database of that URL."""
    return App("changes", services=[Changes], database=Database(url))


@dataclass(frozen=True)
class Hand:
    """Does by hand what `Changes.change` does: the same statements, but no log and no invalidation.

    Attributes:
        engine: to connect with.
        writers: how many transactions may be open at a time: as many as the library lets be.
    """

    engine: AsyncEngine
    writers: asyncio.Semaphore

    async def change(self, row_id: int) -> None:
        """Change a row."""
        async with self.writers, AsyncSession(self.engine) as session, session.begin():
            row = await session.get_one(StoredRow, row_id)
            row.changes += 1


def hand_with_the_librarys_engine(database: Database) -> Hand:
    """By hand, on the connections that operations have."""
    engines = database.engines()
    return Hand(engines.writing, engines.writers)


@asynccontextmanager
async def hand_with_an_engine_of_its_own(url: str) -> AsyncIterator[Hand]:
    """By hand, on an engine that is set up for production by hand, too, as SQLAlchemy's documentation says."""
    made = make_url(url)
    if made.get_backend_name() == "sqlite":
        engine = create_async_engine(made.set(drivername="sqlite+aiosqlite"), pool_size=1, max_overflow=0)
        event.listen(engine.sync_engine, "connect", _on_sqlite_connection)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
        writers = 1
    else:
        engine = create_async_engine(made.set(drivername="postgresql+asyncpg"), pool_size=8)
        writers = 8
    try:
        yield Hand(engine, asyncio.Semaphore(writers))
    finally:
        await engine.dispose()


def _on_sqlite_connection(connection: Any, record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    settings = (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_S}000",
    )
    for setting in settings:
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
