"""The database of an app: where compute methods read and commands write."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from sqlalchemy import Column, MetaData, RowMapping, Table, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from fusion_cluster.commands.completion import complete
from fusion_cluster.commands.operation import Operation
from fusion_cluster.commands.scope import OpenOperation, OperationScope
from fusion_cluster.commands.transactions import Transactions
from fusion_cluster.database.batch_loader import BatchLoader
from fusion_cluster.database.engines import Engines, create_engines
from fusion_cluster.database.event_store import EventStore
from fusion_cluster.database.operation_log import LogOptions, OperationLog
from fusion_cluster.database.row_loader import RowLoaders
from fusion_cluster.database.url import masked, parse_url
from fusion_cluster.quantities import as_finite_timeout
from fusion_cluster.runtime import SYSTEM, Runtime

K = TypeVar("K")
R = TypeVar("R")

DEFAULT_LOG_OPTIONS = LogOptions()

_CREATING_TABLES = 0x667573696F6E
"""The number of PostgreSQL's advisory lock for creating tables."""


class Database:
    """A database, by its URL: `sqlite:///shop.db`, `postgresql://user@host/shop`, or any SQLAlchemy URL.

    It connects at the first use in each process and event loop, so a database made when a module is imported serves
    every process that imports the module.

    Args:
        url: names the database; if it names no driver, an async one is chosen. A relative SQLite path is relative to
            the current folder of the process that makes the object.
        busy_timeout_s: how long an operation waits for its turn to write.
        log: how the operation log is followed and kept.

    Attributes:
        log: the operation log.
        events: the outbox.

    Raises:
        UsageError: the URL cannot be used; the message names it, without its password.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = 30.0, log: LogOptions = DEFAULT_LOG_OPTIONS) -> None:
        self._url = parse_url(url)
        self._busy_timeout_s = as_finite_timeout("busy_timeout_s", busy_timeout_s)
        # Event loop -> the runtime of the host that lives in it, if that is not the system's.
        self._runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()
        self.log = OperationLog(self.engines, self.prepare, log, runtime=lambda: self.runtime)
        self.events = EventStore(self.prepare, self.session, self.log, runtime=lambda: self.runtime)
        # Process and event loop -> its engines. Those of other processes (this one was forked) and of closed loops are
        # dropped when new ones are made: their connections cannot be closed from here.
        self._engines: dict[tuple[int, asyncio.AbstractEventLoop], Engines] = {}
        # They are not connected: this only checks the URL.
        create_engines(self._url, busy_timeout_s=self._busy_timeout_s)
        self._loaders = RowLoaders(self.session, self.began, self._url, runtime=lambda: self.runtime)

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._url.render_as_string(hide_password=False), self._busy_timeout_s, self.log.options)

    @property
    def url(self) -> str:
        """The URL in full, without its password."""
        return masked(self._url.render_as_string())

    @property
    def runtime(self) -> Runtime:
        """The runtime by which entries and events are dated in the event loop that runs."""
        return self._runtimes.get(asyncio.get_running_loop(), SYSTEM)

    def live_by(self, runtime: Runtime) -> None:
        """Take clock, random numbers and tasks from here in the event loop that runs. Hosts do so when they start."""
        if runtime is not self.runtime:
            self._runtimes[asyncio.get_running_loop()] = runtime

    def session(self) -> AsyncSession:
        """A session to read with: `async with database.session() as session`.

        Each statement sees what is committed when it begins, and holds a connection only while it runs. Changes are
        refused: make them in an operation.
        """
        return self.engines().read_session()

    def operation(self) -> AbstractAsyncContextManager[Operation]:
        """One transaction: `async with database.operation() as operation`, then `operation.session`.

        It is committed when the block ends. Then the keys invalidated in the block are invalidated everywhere. An
        exception that leaves the block rolls it back, and nothing is invalidated. Within a command, the command's
        return waits for the invalidations; elsewhere the end of the block does. Within the block of another operation
        on the same database it is a part of that operation's transaction.

        Raises:
            UsageError: (when entered) in a compute method, or in a task other than that of the operation around it.
        """
        return OperationScope(self)

    @overload
    def loader(self, entity: type[R]) -> BatchLoader[Any, R | None]: ...

    @overload
    def loader(self, entity: type[R], *, by: InstrumentedAttribute[K]) -> BatchLoader[K, R | None]: ...

    @overload
    def loader(self, entity: type[R], *, by: Sequence[InstrumentedAttribute[Any]]) -> BatchLoader[Any, R | None]: ...

    @overload
    def loader(
        self, entity: Table, *, by: Column[Any] | Sequence[Column[Any]] | None = None
    ) -> BatchLoader[Any, RowMapping | None]: ...

    def loader(self, entity: Any, *, by: Any = None) -> BatchLoader[Any, Any]:
        """Look up rows by their keys: `row = await database.loader(ProductRow).load(product_id)`; None: there is none.

        All look-ups that are made in one turn of the event loop are one query, wherever they are made. Nothing is kept
        from one turn to the next. Several callers may be given the same row: read it, do not change it. In the block of
        an operation the look-ups of its task see what the operation has written, and their rows belong to its session.
        The database decides which row a key finds, by the rules of the column (letter case, spaces, zones, numbers),
        independent of other callers at the same time. A key that the database refuses is an error only for the callers
        that asked for it.

        Args:
            entity: a mapped class, or a table, whose rows come as mappings.
            by: a column, or several, by which a row is unique; the primary key if none is given. The key of several
                columns is a tuple, in their order.

        Raises:
            UsageError: the entity is not a mapped class or table, or lacks such a column; `field` names the argument.
        """
        return self._loaders.get(entity, by, None, gives_lists=False)

    @overload
    def list_loader(
        self, entity: type[R], *, by: InstrumentedAttribute[K], order_by: Any = None
    ) -> BatchLoader[K, list[R]]: ...

    @overload
    def list_loader(
        self, entity: type[R], *, by: Sequence[InstrumentedAttribute[Any]], order_by: Any = None
    ) -> BatchLoader[Any, list[R]]: ...

    @overload
    def list_loader(
        self, entity: Table, *, by: Column[Any] | Sequence[Column[Any]], order_by: Any = None
    ) -> BatchLoader[Any, list[RowMapping]]: ...

    def list_loader(self, entity: Any, *, by: Any, order_by: Any = None) -> BatchLoader[Any, Any]:
        """Look up all rows of a key: `rows = await database.list_loader(OrderRow, by=OrderRow.customer_id).load(3)`.

        As `loader`, but the columns need not be unique: each key gives a list, empty if there is no row.

        Args:
            entity: a mapped class, or a table, whose rows come as mappings.
            by: the column, or the columns, that have the key.
            order_by: the order of the rows of a key, as for SQLAlchemy's `order_by`, in a tuple if there are several;
                that of the primary key if none is given.

        Raises:
            UsageError: the entity is not a mapped class or table, or lacks such a column; `field` names the argument.
        """
        return self._loaders.get(entity, by, order_by, gives_lists=True)

    def began(self, operation: Operation) -> bool:
        """Whether the transaction of an operation is one of this database, in this event loop."""
        return isinstance(operation, OpenOperation) and operation.transactions is self.engines()

    async def prepare(self) -> None:
        """Make the library's own tables (`fusion_…`), or upgrade them to the revision that this version works with.

        Hosts call it when they start, and operations when they begin. Call it yourself to choose another moment. The
        first call in a process and event loop reads the revision by one SELECT, and upgrades in one transaction if it
        is not the newest; further calls return at once. Concurrent callers share one upgrade, in this process and among
        processes; a failure is not remembered. The app's tables are not touched.

        Raises:
            UsageError: the tables are newer than the library, the role may not make them, or the database is neither
                SQLite nor PostgreSQL.
        """
        await self.engines().preparation.ensure()

    async def create_tables(self, metadata: MetaData | Sequence[MetaData]) -> None:
        """Create the tables that do not exist yet. Several processes may do so at once."""
        async with self.engines().writing.begin() as connection:
            if connection.dialect.name == "postgresql":  # there two that create one table fail, even with IF NOT EXISTS
                await connection.execute(select(func.pg_advisory_xact_lock(_CREATING_TABLES)))
            for one in [metadata] if isinstance(metadata, MetaData) else metadata:
                await connection.run_sync(one.create_all)

    async def dispose(self) -> None:
        """Close this event loop's connections; the next use opens new ones."""
        engines = self._engines.pop((os.getpid(), asyncio.get_running_loop()), None)
        if engines is not None:
            await complete(engines.dispose())

    def transactions(self) -> Transactions:
        """The source of transactions for operations, in the event loop that runs."""
        return self.engines()

    def engines(self) -> Engines:
        """The engines of the event loop that runs."""
        loop = asyncio.get_running_loop()
        key = os.getpid(), loop
        engines = self._engines.get(key)
        if engines is None:
            for pid, old in list(self._engines):
                if pid != key[0] or old.is_closed():
                    del self._engines[pid, old]
            engines = self._engines[key] = create_engines(
                self._url, busy_timeout_s=self._busy_timeout_s, runtime=self.runtime
            )
        return engines


def _restored(url: str, busy_timeout_s: float, log: LogOptions) -> Database:
    return Database(url, busy_timeout_s=busy_timeout_s, log=log)
