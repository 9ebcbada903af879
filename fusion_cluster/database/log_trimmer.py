"""Trims the operation log: old entries are removed; their commands stay known for a while longer.

Each follower of a log trims it when that is due by its own clock and no other process is trimming. The removal and the
mark up to which the log is trimmed change in one transaction, so a reader sees both or neither.

On PostgreSQL the log is trimmed up to the oldest transaction that still writes anywhere on the server: no reader that
has read since then remembers less. Trimming further would gain nothing: as long as that transaction runs, the server
cannot reuse the space.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, case, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fusion_cluster.database.schema import COMMANDS, OPERATIONS, TRIMMED
from fusion_cluster.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from fusion_cluster.database.database import Database

logger = logging.getLogger(__name__)

BATCH: Final = 2_000
"""How many entries one transaction removes."""

_FORGET_COMMANDS: Final = delete(COMMANDS).where(COMMANDS.c.committed_at < bindparam("before"))

# -- SQLite: no other transaction writes meanwhile
_IS_OLD: Final = OPERATIONS.c.committed_at < bindparam("before")
_THROUGH: Final = select(func.max(text("position"))).select_from(
    select(OPERATIONS.c.position).where(_IS_OLD).order_by(OPERATIONS.c.position).limit(bindparam("batch")).subquery()
)
_IS_REMOVED: Final = (OPERATIONS.c.position <= bindparam("through")) & _IS_OLD
_IS_KEPT: Final = select(COMMANDS.c.command_id).where(COMMANDS.c.command_id == OPERATIONS.c.operation_id).exists()
_KEEP_COMMANDS: Final = insert(COMMANDS).from_select(
    ["command_id", "command", "fingerprint", "outcome", "committed_at"],
    select(
        *(OPERATIONS.c.operation_id, OPERATIONS.c.command, OPERATIONS.c.fingerprint),
        *(OPERATIONS.c.outcome, OPERATIONS.c.committed_at),
    ).where(OPERATIONS.c.fingerprint.is_not(None), _IS_REMOVED, ~_IS_KEPT),
)
_REMOVE: Final = delete(OPERATIONS).where(_IS_REMOVED)
_REMEMBER: Final = (
    update(TRIMMED)
    .where(TRIMMED.c.id == 1)
    .values(position=case((TRIMMED.c.position < bindparam("through"), bindparam("through")), else_=TRIMMED.c.position))
)

# -- PostgreSQL: in one statement, which sees an entry either as it is removed or not at all
_LOCK: Final = 0x6675736974  # "fusit"
"""The number of the advisory lock for trimming."""

# Transactions at or after the end of the snapshot are from another server, whose dump was restored here.
_TRIM: Final = text(
    """
    WITH now AS (
      SELECT pg_snapshot_xmin(pg_current_snapshot()) AS oldest, pg_snapshot_xmax(pg_current_snapshot()) AS next
    ), removed AS (
      DELETE FROM fusion_operations WHERE position IN (
        SELECT position FROM fusion_operations, now
        WHERE committed_at < :before AND (transaction_id < oldest OR transaction_id >= next)
        ORDER BY committed_at LIMIT :batch
      )
      RETURNING position, operation_id, command, fingerprint, outcome, committed_at, transaction_id
    ), kept AS (
      INSERT INTO fusion_commands (command_id, command, fingerprint, outcome, committed_at)
      SELECT operation_id, command, fingerprint, outcome, committed_at FROM removed WHERE fingerprint IS NOT NULL
      ON CONFLICT DO NOTHING
    ), through AS (
      SELECT count(*) AS entries, max(position) AS position,
        CAST(CAST(next AS text) AS bigint) AS next,
        coalesce(max(CAST(CAST(transaction_id AS text) AS bigint)) FILTER (WHERE transaction_id < next), 0) AS latest
      FROM removed, now GROUP BY next
    )
    UPDATE fusion_trimmed t SET
      position = greatest(t.position, through.position),
      transaction_id = CASE
        WHEN t.transaction_id BETWEEN latest AND next - 1 THEN t.transaction_id ELSE latest
      END
    FROM through WHERE t.id = 1
    RETURNING through.entries
    """
)


class LogTrimmer:
    """Trims the log of a database, again and again.

    Args:
        database: the database that has the log.
        runtime: gives the clock for the age of entries, the jitter of the period, and the task.
    """

    def __init__(self, database: Database, *, runtime: Runtime = SYSTEM) -> None:
        self._log = database.log
        self._clock = runtime.clock.wall
        self._entropy = runtime.entropy
        self._tasks = runtime.scope("the trimmer of the operation log")

    def start(self) -> None:
        """Begin to trim, once a period."""
        self._tasks.spawn(self._run(), name="trim the operation log")

    async def close(self) -> None:
        """Stop."""
        await self._tasks.close()

    async def _run(self) -> None:
        pause_s = self._entropy.uniform(0.5, 1.0)
        while True:
            await asyncio.sleep(self._log.options.trim_period_s * pause_s)
            pause_s = self._entropy.uniform(0.9, 1.1)
            try:
                while await self.trim() >= BATCH:
                    pass
            except Exception as error:  # the database is away or busy: try again next period
                logger.warning("the operation log could not be trimmed: %s", error)

    async def trim(self) -> int:
        """Remove one batch of old entries and forget old commands; return the number of entries removed."""
        return await self._log.in_transaction(self._trim)

    async def _trim(self, connection: AsyncConnection) -> int:
        options, now = self._log.options, self._clock()
        old: dict[str, Any] = {"before": now - options.retention_s, "batch": BATCH}
        is_postgresql = connection.dialect.name == "postgresql"
        if is_postgresql and not await connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
            return 0
        await connection.execute(_FORGET_COMMANDS, {"before": now - options.command_retention_s})
        if is_postgresql:
            return await connection.scalar(_TRIM, old) or 0
        old["through"] = await connection.scalar(_THROUGH, old)
        if old["through"] is None:
            return 0
        await connection.execute(_KEEP_COMMANDS, old)
        removed = await connection.execute(_REMOVE, old)
        await connection.execute(_REMEMBER, old)
        return removed.rowcount
