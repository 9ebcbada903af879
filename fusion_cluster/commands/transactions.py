"""What operations need of a database: their transactions, its operation log and its outbox."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from fusion_cluster.commands.command_log import CommandLog
from fusion_cluster.commands.events.outbox import EventOutbox
from fusion_cluster.errors import UsageError
from fusion_cluster.runtime import Runtime

IN_PART: Final = "for a part that may fail: `async with operation.session.begin_nested()`"
"""What to do instead of ending a transaction that is an operation's."""


class TransactionEnded(UsageError):
    """The transaction of an operation has ended in the block of the operation, which can commit nothing any more."""


class Transaction(Protocol):
    """The transaction of one operation."""

    @property
    def session(self) -> AsyncSession:
        """To read and write with."""
        ...

    def check(self) -> None:
        """See that it can be committed.

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
        """Roll back what is not committed, and give the connection back."""
        ...

    def note_lost(self) -> None:
        """It is not the one any more that has begun."""
        ...

    @property
    def may_be_committed(self) -> bool:
        """Whether it has been ended past its operation, so that a part of what was written may be durable."""
        ...


class Transactions(Protocol):
    """Where operations get their transactions from: a database, in one event loop."""

    @property
    def writers(self) -> asyncio.Semaphore:
        """How many operations may be open at a time."""
        ...

    async def acquire_writer(self) -> None:
        """Wait until one more may be open; then it is, until `writers.release()`.

        Raises:
            DatabaseUnavailable: others are open for too long.
        """
        ...

    async def begin(self) -> Transaction:
        """Begin a transaction."""
        ...


class OperationalDatabase(Protocol):
    """What operations need of a database."""

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
        """That of the host that lives in the event loop that runs."""
        ...

    def transactions(self) -> Transactions:
        """Where they get their transactions from, in the event loop that runs."""
        ...

    async def prepare(self) -> None:
        """Make the library's tables, where they are not there yet."""
        ...
