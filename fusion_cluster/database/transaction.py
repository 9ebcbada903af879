"""The transaction of an operation: its connection, its session and the watch over both."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from fusion_cluster.database.sessions import OperationSession
from fusion_cluster.database.transaction_watch import WATCH, TransactionWatch, marked


class OperationTransaction:
    """A transaction (a `commands.transactions.Transaction`).

    Its session joins it, as SQLAlchemy defines it for a session on a given connection: committing or closing the
    session ends nothing.

    Args:
        engine: an engine that writes.
        finishes_calls: see `OperationSession`.

    Attributes:
        session: the session to read and write with.
        connection: the connection of the transaction.
    """

    def __init__(self, engine: AsyncEngine, *, finishes_calls: bool) -> None:
        self.watch = TransactionWatch(is_postgresql=engine.dialect.name == "postgresql")
        self.connection: AsyncConnection = engine.connect()
        self._finishes_calls = finishes_calls
        self.session: OperationSession

    async def begin(self) -> None:
        """Connect and begin."""
        await self.connection.start()
        self.session = OperationSession(self.connection, self.watch, finishes_calls=self._finishes_calls)
        await self.connection.run_sync(self._begin)

    @property
    def may_be_committed(self) -> bool:
        """Whether it was ended by something other than its operation, so that a part of its writes may be durable."""
        return self.watch.may_be_committed

    def check(self) -> None:
        """Check that it can be committed.

        Raises:
            TransactionEnded: it has ended already.
        """
        if not self._is_connected:
            self.watch.note("the end of its connection: it was closed, invalidated or lost")
        self.watch.check()

    async def commit(self) -> None:
        """Commit it. Whether it succeeds or not, `close` follows.

        Raises:
            TransactionEnded: it has ended already, and nothing is committed now.
        """
        watch = self.watch
        self.check()
        watch.is_ending = True
        if watch.is_postgresql and not watch.is_mark_seen and not await self._is_marked():
            raise watch.note_lost()
        await self.connection.commit()

    async def close(self) -> None:
        """Roll back if it is not committed, and give the connection back."""
        if self.connection.sync_connection is None:  # it could not connect
            return
        watch = self.watch
        if watch.is_open and watch.is_marked:
            await self._look_back()
        watch.is_ending = True
        try:
            if self.session.in_nested_transaction():
                await AsyncSession.run_sync(self.session, Session.close)
            else:  # there is nothing to send to the database
                Session.close(self.session.sync_session)
        finally:
            if watch.is_forgotten and not self.connection.closed:
                await self.connection.invalidate()
            await self.connection.close()

    def _begin(self, connection: Connection) -> None:
        connection.execution_options(**{WATCH: self.watch})
        connection.begin()

    def note_lost(self) -> None:
        """Note that the transaction is not the one that was begun."""
        self.watch.note_lost()

    @property
    def _is_connected(self) -> bool:
        connection = self.connection.sync_connection
        if connection is None or connection.closed or connection.invalidated:
            return False
        return connection.connection.is_valid

    async def _look_back(self) -> None:
        """Before the rollback, note if the transaction is not the one that was begun."""
        watch = self.watch
        if watch.stands is not None and not watch.stands():
            watch.note_lost()
        elif watch.is_postgresql:
            with suppress(Exception):  # a statement has failed: the server answers no query before the rollback
                if not await self._is_marked():
                    watch.note_lost()

    async def _is_marked(self) -> bool:
        return bool(await self.connection.scalar(select(marked()), {"mark_": self.watch.mark}))
