"""The sessions of a database: one kind for reads, one for operations.

With SQLite a call of a session that has begun is finished before a cancellation of its caller takes effect: its driver
works in a thread, which a cancellation does not reach, and would lose track of it. Drivers of servers cancel the work
of the server.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncResult, AsyncSession, AsyncSessionTransaction
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from fusion_cluster.commands.completion import complete
from fusion_cluster.database.availability import reading
from fusion_cluster.database.transaction_watch import INSTEAD, TransactionWatch
from fusion_cluster.errors import UsageError

T = TypeVar("T")

# The calls of a session that reach the database, except streams and calls that consist of others (`scalars`).
_CALLS: Final = (
    *("execute", "scalar", "get", "get_one", "refresh", "run_sync"),
    *("flush", "merge", "merge_all", "delete", "delete_all"),
)


class _GuardedSession(AsyncSession):
    """A session whose calls go through `_guard`.

    Args:
        bind: an engine to connect with, or a connection.
        finishes_calls: a call that has begun is finished before its caller's cancellation takes effect.
    """

    def __init__(self, bind: AsyncEngine | AsyncConnection, *, finishes_calls: bool, **options: Any) -> None:
        super().__init__(bind, expire_on_commit=False, **options)
        self._finishes_calls = finishes_calls

    async def stream(self, statement: Any, *args: Any, **options: Any) -> AsyncResult[Any]:
        """Stream the rows of a query; with SQLite all of them are read at once."""
        if self._finishes_calls:
            return AsyncResult(await self.execute(statement, *args, **options))
        rows: AsyncResult[Any] = await super().stream(statement, *args, **options)
        return rows

    async def _guard(self, call: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError


def _guarded(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(method)
    async def call(self: _GuardedSession, *args: Any, **kwargs: Any) -> Any:
        return await self._guard(method(self, *args, **kwargs))

    return call


for _name in _CALLS:
    setattr(_GuardedSession, _name, _guarded(getattr(AsyncSession, _name)))


class _Savepoint(AsyncSessionTransaction):
    """A savepoint whose calls go through the session's `_guard`."""

    __slots__ = ()

    async def start(self, is_ctxmanager: bool = False) -> AsyncSessionTransaction:
        return await self._guarded(super().start(is_ctxmanager))

    async def commit(self) -> None:
        await self._guarded(super().commit())

    async def rollback(self) -> None:
        await self._guarded(super().rollback())

    async def __aexit__(self, type_: Any, value: Any, traceback: Any) -> None:
        await self._guarded(super().__aexit__(type_, value, traceback))

    async def _guarded(self, call: Coroutine[Any, Any, T]) -> T:
        assert isinstance(self.session, _GuardedSession)
        return await self.session._guard(call)


class OperationSession(_GuardedSession):
    """The session of an operation: only the operation commits or rolls back, when its block ends.

    The habits of SQLAlchemy do no harm: leaving `async with operation.session as session`, or closing it, ends nothing,
    and `async with session.begin()` is a savepoint. Errors are those of `_OperationSyncSession`.

    Args:
        connection: the connection in the operation's transaction, which the session joins.
        watch: the watch over that transaction.
        finishes_calls: a call that has begun is finished before its caller's cancellation takes effect.
    """

    def __init__(self, connection: AsyncConnection, watch: TransactionWatch, *, finishes_calls: bool) -> None:
        super().__init__(
            connection,
            finishes_calls=finishes_calls,
            sync_session_class=_OperationSyncSession,
            join_transaction_mode="rollback_only",
        )
        self._watch = watch

    async def connection(self, *args: Any, **options: Any) -> AsyncConnection:
        """Return the connection of the operation's transaction."""
        return await self._guard(super().connection(*args, **options))

    def begin(self) -> AsyncSessionTransaction:
        """Begin a savepoint, as the transaction has begun already: `async with operation.session.begin()`."""
        return self.begin_nested()

    def begin_nested(self) -> AsyncSessionTransaction:
        """Begin a savepoint: `async with operation.session.begin_nested()`."""
        return _Savepoint(self, nested=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:  # its work may be half done
            self._watch.note("an exception that has left the block of its session")

    async def _guard(self, call: Coroutine[Any, Any, T]) -> T:
        return await (complete(call) if self._finishes_calls else call)


class _OperationSyncSession(Session):
    """The session that `run_sync` gives in an operation."""

    def commit(self) -> None:
        """Refuse: the operation commits when its block ends.

        Raises:
            UsageError: always.
        """
        raise UsageError(INSTEAD["commit"])

    def rollback(self) -> None:
        """Refuse: an exception that leaves the block rolls the operation back.

        Raises:
            UsageError: always.
        """
        raise UsageError(INSTEAD["roll back"])

    def prepare(self) -> None:
        """Refuse: the operation commits when its block ends.

        Raises:
            UsageError: always.
        """
        raise UsageError(INSTEAD["commit"])

    def reset(self) -> None:
        """Refuse: it would roll back.

        Raises:
            UsageError: always.
        """
        raise UsageError(INSTEAD["roll back"])

    def invalidate(self) -> None:
        """Refuse: it would roll back.

        Raises:
            UsageError: always.
        """
        raise UsageError(INSTEAD["roll back"])

    def begin(self, nested: bool = False) -> SessionTransaction:
        """A savepoint."""
        return super().begin(nested=True)

    def close(self) -> None:
        """Do nothing: the operation closes it."""


class ReadSession(_GuardedSession):
    """A session for reads. It holds a connection only while a call runs.

    So a computation that awaits another inside the session's block never blocks it from a connection.

    Args:
        engine: the engine to connect with, in autocommit mode.
        slots: how many calls may run at a time.
        finishes_calls: a call that has begun is finished before its caller's cancellation takes effect.
    """

    def __init__(self, engine: AsyncEngine, *, slots: asyncio.Semaphore, finishes_calls: bool) -> None:
        super().__init__(engine, finishes_calls=finishes_calls, sync_session_class=_ReadOnlySession)
        self._slots = slots

    async def stream(self, statement: Any, *args: Any, **options: Any) -> AsyncResult[Any]:
        """Stream the rows of a query; all are read at once, because a cursor would need a transaction."""
        return AsyncResult(await self.execute(statement, *args, **options))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.in_transaction():  # the user's own begin()
            await super().__aexit__(kind, error, traceback)
        else:
            await self.close()

    async def _guard(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            async with self._slots:
                with reading():
                    return await (complete(self._released(call)) if self._finishes_calls else self._released(call))
        finally:
            call.close()  # it has not begun if the wait for a slot was cancelled

    async def _released(self, call: Coroutine[Any, Any, T]) -> T:
        """Make the call, then give the connection back: in autocommit mode there is nothing to end."""
        try:
            return await call
        finally:
            await AsyncSession.run_sync(self, _end_transaction)


def _end_transaction(session: Session) -> None:
    transaction = session.get_transaction()
    if transaction is not None and transaction.origin is SessionTransactionOrigin.AUTOBEGIN:
        transaction.close()


class _ReadOnlySession(Session):
    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Refuse to write changes.

        Raises:
            UsageError: an object of the session was changed.
        """
        if self.new or self.deleted or self.dirty:
            raise UsageError("this session only reads: change data in an operation, `async with database.operation()`")
