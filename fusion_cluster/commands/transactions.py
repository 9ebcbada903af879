"""The parts of a database that operations use: their transactions, its operation log and its outbox."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from fusion_cluster.commands.command_log import CommandLog
from fusion_cluster.commands.outbox import EventOutbox
from fusion_cluster.errors import UsageError
from fusion_cluster.runtime import Runtime

IN_PART: Final = "for a part that may fail: `async with operation.session.begin_nested()`"
"""The advice for code that would end the transaction of an operation."""


class TransactionEnded(UsageError):
    """The transaction of an operation has ended in its block: the operation cannot commit anything any more."""


class Transaction(Protocol):
    """The transaction of one operation."""

    @property
    def session(self) -> AsyncSession:
        """The session to read and write with."""
        ...

    def check(self) -> None:
        """Check that it can be committed.

        Raises:
            TransactionEnded: it has ended already.
        """
        ...

    async def commit(self) -> None:
        """Commit it. Whether it succeeds or not, `close` follows.

        Raises:
            TransactionEnded: it has ended already, and nothing is committed now.
        """
        ...

    async def close(self) -> None:
        """Roll back if it is not committed, and give the connection back."""
        ...

    def note_lost(self) -> None:
        """Note that the transaction is not the one that was begun."""
        ...

    @property
    def may_be_committed(self) -> bool:
        """Whether it was ended by something other than its operation, so that a part of its writes may be durable."""
        ...


class Transactions(Protocol):
    """The source of transactions for operations: a database, in one event loop."""

    @property
    def writers(self) -> asyncio.Semaphore:
        """Limits how many operations may be open at a time."""
        ...

    async def acquire_writer(self) -> None:
        """Wait for the turn of one more operation; `writers.release()` ends it.

        Raises:
            DatabaseUnavailable: other operations are open for too long.
        """
        ...

    async def begin(self) -> Transaction:
        """Begin a transaction."""
        ...


class OperationalDatabase(Protocol):
    """A database as operations use it."""

    @property
    def log(self) -> CommandLog:
        """Its operation log."""
        ...

    @property
    def events(self) -> EventOutbox:
        """Its outbox."""
        ...

    @property
    def runtime(self) -> Runtime:
        """The runtime of the host that lives in the event loop that runs."""
        ...

    def transactions(self) -> Transactions:
        """The source of their transactions, in the event loop that runs."""
        ...

    async def prepare(self) -> None:
        """Make the library's tables if they do not exist yet."""
        ...
