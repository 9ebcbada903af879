"""SQLAlchemy engines: a pair for each event loop, one for reads and one for writes.

Reads are in autocommit mode: a read costs one statement and no BEGIN or ROLLBACK, and each statement sees what is
committed when it begins. The connections that read refuse to change anything, on SQLite and on PostgreSQL. SQLite is
set up for several processes: WAL, so that readers and the writer do not wait for each other; BEGIN IMMEDIATE for
operations, so that two writers wait for each other at the beginning and do not fail when the second upgrades its lock;
one operation at a time per process, so that they queue here and not in SQLite; a driver of its own (`sqlite_driver`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from sqlite3 import DatabaseError, OperationalError
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolResetState

from fusion_cluster.commands.completion import complete
from fusion_cluster.database import sqlite_driver
from fusion_cluster.database.availability import reaching
from fusion_cluster.database.driver_statements import execute_directly, execution
from fusion_cluster.database.idle_pings import pings_when_idle
from fusion_cluster.database.look_ups import LookUps
from fusion_cluster.database.preparation import Preparation
from fusion_cluster.database.sessions import ReadSession
from fusion_cluster.database.transaction import OperationTransaction
from fusion_cluster.database.transaction_watch import TransactionWatch, set_mark, watch_transactions
from fusion_cluster.database.url import masked
from fusion_cluster.errors import DatabaseUnavailable, UsageError
from fusion_cluster.runtime import SYSTEM, SYSTEM_CLOCK, Runtime

_MAX_BUSY_TIMEOUT_MS = 2**31 - 1
"""SQLite keeps it in a C int."""

_SQLITE_READERS = 4
"""The number of statements, each in a thread, that read one SQLite file at a time, in one process and loop."""

_SERVER_READERS = _SERVER_WRITERS = 8
"""The number of reading statements, and of operations, at a time on a database server, in one process and loop."""

_ASYNCPG = "postgresql+asyncpg"

_FOLLOWERS = 1
"""The number of statements that read the operation log at a time, in one process and loop."""


@dataclass(frozen=True, eq=False)
class Engines:
    """The engines of one database in one event loop (`commands.scope.Transactions`).

    Attributes:
        reading: in autocommit mode.
        writing: for operations.
        listening: one connection each, in autocommit mode, kept for as long as it is listened to.
        readers: how many statements may read at a time.
        followers: how many more may read the operation log at a time: slow readers do not delay it.
        writers: how many operations may be open at a time.
        busy_timeout_s: how long an operation waits for its turn to write.
        finishes_calls: whether a call of a session is finished before its caller's cancellation takes effect.
        preparation: makes and upgrades the library's tables.
        runtime: the runtime of the host that lives in the event loop.
        look_ups: looks commands up in the operation log.
    """

    reading: AsyncEngine
    writing: AsyncEngine
    listening: AsyncEngine
    readers: asyncio.Semaphore
    followers: asyncio.Semaphore
    writers: asyncio.Semaphore
    busy_timeout_s: float
    finishes_calls: bool
    preparation: Preparation
    runtime: Runtime
    look_ups: LookUps = field(init=False)

    def __post_init__(self) -> None:
        look_ups = LookUps(self.reading, self.read_session, runtime=self.runtime)
        object.__setattr__(self, "look_ups", look_ups)

    def read_session(self) -> ReadSession:
        """Return a session to read with."""
        return ReadSession(self.reading, slots=self.readers, finishes_calls=self.finishes_calls)

    def following_session(self) -> ReadSession:
        """Return a session to read the operation log with."""
        return ReadSession(self.reading, slots=self.followers, finishes_calls=self.finishes_calls)

    async def acquire_writer(self) -> None:
        """Wait for the turn of one more operation; `writers.release()` ends it.

        Raises:
            DatabaseUnavailable: other operations are open for too long.
        """
        try:
            async with asyncio.timeout(self.busy_timeout_s):
                await self.writers.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"no operation of this process has ended within {self.busy_timeout_s:g} s", retry_after_s=1.0
            ) from None

    async def begin(self) -> OperationTransaction:
        """Begin the transaction of an operation."""
        transaction = OperationTransaction(self.writing, finishes_calls=self.finishes_calls)
        try:
            with reaching():
                await (complete(transaction.begin()) if self.finishes_calls else transaction.begin())
        except BaseException:
            await complete(transaction.close())
            raise
        return transaction

    async def dispose(self) -> None:
        """Close all connections. A connection in use is closed when it is given back."""
        await self.preparation.ended()
        await self.look_ups.close()
        engines = dict.fromkeys((self.reading, self.writing, self.listening))
        for engine in engines:
            event.listen(engine.sync_engine, "checkin", _close_returned)
        for engine in engines:
            await engine.dispose()


def _close_returned(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Close a connection that comes back after its pool was emptied: no one would use it again."""
    if connection is not None:  # else it was lost and is closed
        entry.invalidate()


def create_engines(url: URL, *, busy_timeout_s: float, runtime: Runtime = SYSTEM) -> Engines:
    """Create engines for a URL; they connect when first used.

    Args:
        url: names an async driver.
        busy_timeout_s: how long an operation waits for its turn to write.
        runtime: starts their tasks.

    Raises:
        UsageError: there is no such driver, it is not installed, or it is not async.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite_engines(url, busy_timeout_s, runtime)
    reading = _create(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_pre_ping=True,
        pool_size=_SERVER_READERS + _FOLLOWERS,
        pool_timeout=busy_timeout_s,
    )
    is_postgresql = url.get_backend_name() == "postgresql"
    writing = _create(
        url,
        pool_pre_ping=not is_postgresql,
        pool_size=_SERVER_WRITERS,
        pool_timeout=busy_timeout_s,
        connect_args={"async_creator_fn": _connect_with_asyncpg} if url.drivername == _ASYNCPG else {},
    )
    if is_postgresql:
        pings_when_idle(writing)
        watch_transactions(writing, _begin_on_postgresql)
        event.listen(writing.sync_engine, "checkin", _on_postgresql_checkin)
        event.listen(reading.sync_engine, "connect", _on_postgresql_reading_connection)
    return Engines(
        reading,
        writing,
        listening=_create(url, isolation_level="AUTOCOMMIT", poolclass=NullPool),
        readers=asyncio.Semaphore(_SERVER_READERS),
        followers=asyncio.Semaphore(_FOLLOWERS),
        writers=asyncio.Semaphore(_SERVER_WRITERS),
        busy_timeout_s=busy_timeout_s,
        finishes_calls=False,
        preparation=Preparation(reading, writing, runtime=runtime),
        runtime=runtime,
    )


async def _connect_with_asyncpg(*args: Any, **options: Any) -> Any:
    from fusion_cluster.database import postgresql_driver  # it may not be installed

    return await postgresql_driver.connect(*args, **options)


def _begin_on_postgresql(connection: Connection, watch: TransactionWatch | None) -> None:
    driver = connection.connection.driver_connection
    begins: Callable[[TransactionWatch | None], None] | None = getattr(driver, "fusion_begins", None)
    if begins is not None:
        begins(watch)
    elif watch is not None:
        execute_directly(connection, set_mark(watch))
        watch.is_marked = True
        watch.stands = lambda: True


def _on_postgresql_checkin(connection: Any, record: ConnectionPoolEntry) -> None:
    """Drop a connection that comes back in a transaction: SQLAlchemy would give it to the next operation."""
    if connection is None:
        return
    is_in_transaction = getattr(connection.driver_connection, "is_in_transaction", None)
    if is_in_transaction is not None and is_in_transaction():
        record.invalidate()


def _on_postgresql_reading_connection(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("SET default_transaction_read_only = on")
    cursor.close()


def _sqlite_engines(url: URL, busy_timeout_s: float, runtime: Runtime) -> Engines:
    reading = _create(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,
        pool_size=_SQLITE_READERS + _FOLLOWERS,
        pool_timeout=busy_timeout_s,
        connect_args={"async_creator_fn": sqlite_driver.connect},
    )
    writing = _create(
        url,
        pool_reset_on_return=None,  # see on_return
        pool_size=1,
        pool_timeout=busy_timeout_s,
        connect_args={"async_creator_fn": sqlite_driver.connect},
    )

    busy_timeout_ms = min(int(busy_timeout_s * 1000), _MAX_BUSY_TIMEOUT_MS)

    @_naming_the_file(url)
    def set_up(connection: Any, *pragmas: str) -> None:
        connection.isolation_level = None  # BEGIN is ours, see below
        cursor = connection.cursor()
        for pragma in (f"busy_timeout = {busy_timeout_ms}", "synchronous = NORMAL", *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def on_writing_connection(connection: Any, record: object) -> None:
        set_up(connection, "foreign_keys = ON")
        _switch_to_wal(connection, busy_timeout_s)
        cursor = connection.cursor()
        cursor.execute(sqlite_driver.MAKE_MARKS)
        cursor.close()

    def on_reading_connection(connection: Any, record: object) -> None:
        set_up(connection, "query_only = ON")

    def begin(connection: Connection, watch: TransactionWatch | None) -> None:
        raw: Any = connection.connection
        raw.driver_connection.watch = None
        if watch is None:
            execute_directly(connection, "BEGIN IMMEDIATE")
        else:
            with execution(connection, "BEGIN IMMEDIATE"):
                raw.run_async(lambda driver: driver.begin(watch))

    def on_return(connection: Any, entry: ConnectionPoolEntry, state: PoolResetState) -> None:
        # Only when needed: each is a message to a thread.
        driver = connection.driver_connection
        if driver.is_adrift or (driver.open_cursors and not state.asyncio_safe):
            entry.invalidate()
            return
        if driver.open_cursors:  # while rows are left to fetch, the connection sees the database as it was then
            connection.run_async(sqlite_driver.close_cursors)
        # A COMMIT that was refused (a deferred foreign key) has ended the transaction for SQLAlchemy, not for SQLite.
        if state.asyncio_safe and driver.in_transaction:
            connection.rollback()

    event.listen(reading.sync_engine, "connect", on_reading_connection)
    event.listen(writing.sync_engine, "connect", on_writing_connection)
    watch_transactions(writing, begin)
    for engine in (reading, writing):
        event.listen(engine.sync_engine, "reset", on_return)
    return Engines(
        reading,
        writing,
        listening=reading,
        readers=asyncio.Semaphore(_SQLITE_READERS),
        followers=asyncio.Semaphore(_FOLLOWERS),
        writers=asyncio.Semaphore(1),
        busy_timeout_s=busy_timeout_s,
        finishes_calls=True,
        preparation=Preparation(reading, writing, runtime=runtime),
        runtime=runtime,
    )


@contextmanager
def _naming_the_file(url: URL) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_NOTADB":
            raise
        raise UsageError(f"{url.database} is not a database of SQLite", field="url") from error


_thread_clock = SYSTEM_CLOCK.monotonic
"""The clock for waits in a thread: real time, also when the event loop runs on virtual time."""


def _switch_to_wal(connection: Any, busy_timeout_s: float) -> None:
    """Make the journal a WAL, which the file then keeps. SQLite refuses at once while another connection writes."""
    deadline_s = _thread_clock() + busy_timeout_s
    cursor = connection.cursor()
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except OperationalError:
            if _thread_clock() > deadline_s:
                raise
            cursor.execute("BEGIN IMMEDIATE")  # which waits for the other to end
            cursor.execute("COMMIT")
        else:
            cursor.close()
            return


def _create(url: URL, **options: Any) -> AsyncEngine:
    shown = masked(url.render_as_string())
    try:
        return create_async_engine(url, hide_parameters=True, **options)
    except NoSuchModuleError as error:
        raise UsageError(f"no database driver {url.drivername!r}, in {shown!r}", field="url") from error
    except ModuleNotFoundError as error:
        extra = ", of the extra fusion-cluster[postgresql]" if error.name == "asyncpg" else ""
        raise UsageError(f"the database {shown!r} needs the package {error.name!r}{extra}", field="url") from error
    except (InvalidRequestError, ArgumentError) as error:
        raise UsageError(f"the database {shown!r} cannot be used: {error}", field="url") from error
