"""Entries of the operation log, written by hand: in transactions that tests begin and end as they like."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from fusion_cluster.commands import LoggedKey
from fusion_cluster.commands.transactions import Transaction
from fusion_cluster.database import Database
from fusion_cluster.database.schema import OPERATIONS


async def write_entry(
    session: AsyncSession,
    operation_id: str,
    *,
    age_s: float = 0.0,
    keys: Sequence[LoggedKey] = (),
    fingerprint: bytes | None = None,
    outcome: bytes | None = None,
) -> None:
    """Write an entry in the transaction of a session.

    Args:
        session: of the transaction.
        operation_id: its id.
        age_s: for how long it seems to have been there.
        keys: what it invalidates.
        fingerprint: of the command, if it is that of one that can be retried.
        outcome: what that ended with.
    """
    values = {
        "operation_id": operation_id,
        "command": None if fingerprint is None else "Shelves.put",
        "fingerprint": fingerprint,
        "outcome": outcome,
        "host": "test",
        "committed_at": time.time() - age_s,
        "keys": msgspec.msgpack.encode(tuple(keys)),
    }
    await session.execute(insert(OPERATIONS), values)


class Writer:
    """A transaction that writes entries."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.session = transaction.session

    async def write(self, *operation_ids: str, age_s: float = 0.0) -> None:
        """Write entries."""
        for operation_id in operation_ids:
            await write_entry(self.session, operation_id, age_s=age_s)

    async def commit(self) -> None:
        """Commit."""
        await self._transaction.commit()
        await self._transaction.close()

    async def roll_back(self) -> None:
        """Roll back."""
        await self._transaction.close()


async def begin(database: Database) -> Writer:
    """Begin a transaction; with SQLite only one at a time."""
    return Writer(await database.engines().begin())


async def committed(database: Database, *operation_ids: str, age_s: float = 0.0) -> None:
    """Write entries, each in a transaction of its own."""
    for operation_id in operation_ids:
        async with writing(database) as writer:
            await writer.write(operation_id, age_s=age_s)


@asynccontextmanager
async def writing(database: Database) -> AsyncIterator[Writer]:
    """A transaction that is committed at the end of the block."""
    writer = await begin(database)
    try:
        yield writer
    except BaseException:
        await writer.roll_back()
        raise
    await writer.commit()


async def logged(database: Database, what: str = "operation_id", table: str = "fusion_operations") -> list[object]:
    """One column of the log as it is committed, in order."""
    order = "position" if table == "fusion_operations" else what
    async with database.session() as session:
        return list((await session.scalars(text(f"SELECT {what} FROM {table} ORDER BY {order}"))).all())
