"""Trimming the operation log: old entries go; their commands stay known for a while longer.

Everybody who follows a log does it, when it is due by their own clock and nobody else is at it. What is removed, and up
to where the log is trimmed, change in one transaction, so a reader sees both or neither.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, case, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fusion_cluster.database.schema import COMMANDS, OPERATIONS, TRIMMED

if TYPE_CHECKING:
    from fusion_cluster.database.database import Database

BATCH: Final = 2_000
"""How many entries one transaction removes."""

_LOCK: Final = 0x6675736974  # "fusit"
"""The number of PostgreSQL's advisory lock for those who trim."""

_OLD: Final = OPERATIONS.c.committed_at < bindparam("before")
_THROUGH: Final = select(func.max(text("position"))).select_from(
    select(OPERATIONS.c.position).where(_OLD).order_by(OPERATIONS.c.position).limit(BATCH).subquery()
)
_REMOVED: Final = (OPERATIONS.c.position <= bindparam("through")) & _OLD
_KEEP_COMMANDS: Final = insert(COMMANDS).from_select(
    ["command_id", "command", "fingerprint", "outcome", "committed_at"],
    select(
        *(OPERATIONS.c.operation_id, OPERATIONS.c.command, OPERATIONS.c.fingerprint),
        *(OPERATIONS.c.outcome, OPERATIONS.c.committed_at),
    ).where(OPERATIONS.c.fingerprint.is_not(None), _REMOVED),
)
_REMOVE: Final = delete(OPERATIONS).where(_REMOVED)
_LAST_TRANSACTION: Final = select(func.max(text("CAST(CAST(transaction_id AS text) AS bigint)"))).where(_REMOVED)
_REMEMBER: Final = (
    update(TRIMMED)
    .where(TRIMMED.c.id == 1)
    .values(
        position=case((TRIMMED.c.position < bindparam("through"), bindparam("through")), else_=TRIMMED.c.position),
        transaction_id=case(
            (TRIMMED.c.transaction_id < bindparam("transaction"), bindparam("transaction")),
            else_=TRIMMED.c.transaction_id,
        ),
    )
)
_FORGET_COMMANDS: Final = delete(COMMANDS).where(COMMANDS.c.committed_at < bindparam("before"))


class LogTrimmer:
    """Trims the log of a database, again and again.

    Args:
        database: whose.
    """

    def __init__(self, database: Database) -> None:
        self._log = database.log
        self._due_s = time.monotonic() + self._log.options.trim_period_s * random.uniform(0.5, 1.0)

    async def trim_when_due(self) -> None:
        """Trim, if the period is over."""
        if time.monotonic() < self._due_s:
            return
        while await self.trim() == BATCH:
            pass
        self._due_s = time.monotonic() + self._log.options.trim_period_s * random.uniform(0.9, 1.1)

    async def trim(self) -> int:
        """Remove one batch of entries that are too old, and forget commands that are; returns how many entries."""
        return await self._log.in_transaction(self._trim)

    async def _trim(self, connection: AsyncConnection) -> int:
        options, now = self._log.options, time.time()
        is_postgresql = connection.dialect.name == "postgresql"
        if is_postgresql and not await connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
            return 0
        await connection.execute(_FORGET_COMMANDS, {"before": now - options.command_retention_s})
        old: dict[str, Any] = {"before": now - options.retention_s}
        old["through"] = through = await connection.scalar(_THROUGH, old)
        if through is None:
            return 0
        transaction = await connection.scalar(_LAST_TRANSACTION, old) if is_postgresql else 0
        await connection.execute(_KEEP_COMMANDS, old)
        removed = await connection.execute(_REMOVE, old)
        await connection.execute(_REMEMBER, {"through": through, "transaction": transaction})
        return removed.rowcount
