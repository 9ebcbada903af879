"""Readers of the operation log: each gives the entries that were committed since it looked last, every one once.

Transactions do not commit in the order in which they begin to write, so a position that is missing may be filled later.
SQLite lets one transaction write at a time: there positions appear in order, and the highest one is all that a reader
has to remember. PostgreSQL does not. There a reader remembers the *snapshot* in which it looked last, and asks for the
entries of transactions that were not visible in it and are now: no gap, however late it is filled, and no waiting for
gaps that never will be.

A reader that cannot tell what it has missed says so, and is up to date again: entries have been trimmed that it had not
seen, there are too many, one cannot be understood, or the database has gone back in time (a backup was restored, or a
standby has taken over that had not got all).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from sqlalchemy import TextClause, text

from fusion_cluster.commands.outcomes import LoggedKey
from fusion_cluster.database.operation_log import decode_keys
from fusion_cluster.errors import UsageError

if TYPE_CHECKING:
    from fusion_cluster.database.engines import Engines

logger = logging.getLogger(__name__)

MAX_ENTRIES: Final = 5_000
"""A reader that finds more at once has fallen behind: to take everything for out of date costs less then."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A committed operation, as those who follow the log see it.

    Attributes:
        operation_id: its id.
        host: the process that has committed it.
        keys: what it invalidates.
    """

    operation_id: str
    host: str
    keys: tuple[LoggedKey, ...]


class LogReader(Protocol):
    """Where one follower of the log has got to."""

    async def start(self) -> None:
        """Begin now: entries committed from here on will be given."""
        ...

    async def read(self) -> Sequence[LogEntry] | None:
        """The entries committed since the last call; None: some cannot be had any more, or they are too many.

        A call that raises has given nothing: the next one gives it.
        """
        ...


def new_reader(engines: Callable[[], Engines]) -> LogReader:
    """A reader for the kind of database.

    Args:
        engines: gives what to read with.

    Raises:
        UsageError: there is no operation log on databases of this kind.
    """
    kind = engines().reading.dialect.name
    if kind == "sqlite":
        return SQLiteLogReader(engines)
    if kind == "postgresql":
        return PostgreSQLLogReader(engines)
    raise UsageError(f"the operation log needs SQLite or PostgreSQL, this is {kind}", field="url")


class SQLiteLogReader:
    """Reads by position.

    Args:
        engines: gives what to read with.
    """

    _START: Final = text(
        "SELECT max(coalesce((SELECT max(position) FROM fusion_operations), 0),"
        " (SELECT position FROM fusion_trimmed WHERE id = 1))"
    )
    # The sequence never falls behind the positions it has given, unless the file has become another one.
    _READ: Final = text(
        "SELECT t.position AS trimmed,"
        " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'fusion_operations'), 0) AS last,"
        " o.position, o.operation_id, o.host, o.keys FROM fusion_trimmed t"
        " LEFT JOIN fusion_operations o ON o.position > :position WHERE t.id = 1"
        " ORDER BY o.position LIMIT :limit"
    )

    def __init__(self, engines: Callable[[], Engines]) -> None:
        self._engines = engines
        self._position = 0

    async def start(self) -> None:
        """Begin behind the last entry."""
        self._position = (await _rows(self._engines(), self._START, {}))[0][0]

    async def read(self) -> Sequence[LogEntry] | None:
        """The entries behind the last position."""
        rows = await _rows(self._engines(), self._READ, {"position": self._position, "limit": MAX_ENTRIES + 1})
        if rows[0].trimmed > self._position or rows[0].last < self._position or len(rows) > MAX_ENTRIES:
            await self.start()
            return None
        entries = _entries(rows)
        if rows[-1].position is not None:
            self._position = rows[-1].position
        return entries


class PostgreSQLLogReader:
    """Reads by snapshots (PostgreSQL's documentation, 9.28 "Transaction ID and Snapshot Information").

    A server that has crashed gives numbers once more which it had given to transactions that were not committed, and a
    standby that takes over does so with those that it had not heard of: what a snapshot says of a number is true of one
    life of a server. A life is told by when the server was started, and since when it has counted what its background
    writer does, which it begins anew when it has crashed.

    Args:
        engines: gives what to read with.
    """

    _LIFE: Final = "CAST(pg_postmaster_start_time() AS text) || CAST(pg_stat_get_bgwriter_stat_reset_time() AS text)"
    _START: Final = text(f"SELECT CAST(pg_current_snapshot() AS text), {_LIFE}")
    # The snapshot that the statement reports is the one in which it reads the entries. What was not visible in the one
    # before had not begun then, or ran: two conditions that the index answers, however long a transaction runs beside.
    # What is visible now has a transaction below the snapshot's end, unless it was restored from a dump of another
    # server, which counted higher.
    _READ: Final = text(
        f"SELECT {_LIFE} AS life,"
        " CAST(s.now AS text) AS snapshot, CAST(s.trimmed AS text) AS trimmed, o.operation_id, o.host, o.keys"
        " FROM (SELECT pg_current_snapshot() AS now, transaction_id AS trimmed FROM fusion_trimmed WHERE id = 1) s"
        " LEFT JOIN fusion_operations o ON (o.transaction_id >= CAST(CAST(:xmax AS text) AS xid8)"
        " OR o.transaction_id = ANY(CAST(string_to_array(CAST(:running AS text), ',') AS xid8[])))"
        " AND o.transaction_id < pg_snapshot_xmax(s.now)"
        " ORDER BY o.position LIMIT :limit"
    )

    def __init__(self, engines: Callable[[], Engines]) -> None:
        self._engines = engines
        self._snapshot = ""
        self._life = ""

    async def start(self) -> None:
        """Begin with what is not visible now."""
        self._snapshot, self._life = (await _rows(self._engines(), self._START, {}))[0]

    async def read(self) -> Sequence[LogEntry] | None:
        """The entries that were not visible the last time."""
        xmin, xmax, running = _parts(self._snapshot)
        rows = await _rows(
            self._engines(), self._READ, {"xmax": str(xmax), "running": running, "limit": MAX_ENTRIES + 1}
        )
        is_same_life = rows[0].life == self._life
        self._snapshot, self._life = rows[0].snapshot, rows[0].life
        _, new_xmax, _ = _parts(self._snapshot)
        # A transaction that was trimmed is below the end, too: see above.
        is_behind = xmin <= int(rows[0].trimmed) < new_xmax
        if is_behind or not is_same_life or new_xmax < xmax or len(rows) > MAX_ENTRIES:
            return None
        return _entries(rows)


def _parts(snapshot: str) -> tuple[int, int, str]:
    """The oldest transaction that is not over in a snapshot, the first that has not begun, and those that run."""
    xmin, xmax, running = snapshot.split(":")
    return int(xmin), int(xmax), running


async def _rows(engines: Engines, statement: TextClause, parameters: dict[str, Any]) -> Sequence[Any]:
    async with engines.following_session() as session:
        return (await session.execute(statement, parameters)).all()


def _entries(rows: Sequence[Any]) -> list[LogEntry] | None:
    try:
        return [
            LogEntry(row.operation_id, row.host, decode_keys(row.keys)) for row in rows if row.operation_id is not None
        ]
    except msgspec.MsgspecError as error:
        logger.error("the operation log has an entry that cannot be understood: %s", error)
        return None
