"""Readers of the operation log: each gives the entries committed since its last read, every entry once.

Transactions do not commit in the order in which they begin to write, so a position that is missing may be filled later.
SQLite lets one transaction write at a time: positions appear in order, and a reader remembers only the highest one.
PostgreSQL lets many write. There a reader remembers the *snapshot* of its last read, and asks for the entries of
transactions that were not visible in it and are visible now. So it misses no gap, however late it is filled, and never
waits for a gap that stays empty.

A reader that cannot know what it has missed reports that, and is up to date again. The reasons: entries were trimmed
before it read them, there are too many, one cannot be decoded, or the database has gone back in time (a backup was
restored, or a standby that had not received everything has taken over).
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
"""A reader that finds more at once has fallen behind: marking everything as out of date costs less then."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A committed operation, as followers of the log see it.

    Attributes:
        operation_id: its id.
        host: the name of the host that has committed it.
        keys: the keys that it invalidates.
    """

    operation_id: str
    host: str
    keys: tuple[LoggedKey, ...]


class LogReader(Protocol):
    """The place in the log of one follower."""

    async def start(self) -> None:
        """Begin now: `read` gives the entries committed from here on."""
        ...

    async def read(self) -> Sequence[LogEntry] | None:
        """Return the entries committed since the last call; None: some are gone, or there are too many.

        A call that raises has given nothing: the next call gives the same entries.
        """
        ...


def new_reader(engines: Callable[[], Engines]) -> LogReader:
    """Make a reader for the kind of database.

    Args:
        engines: gives the engines to read with.

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
        engines: gives the engines to read with.
    """

    _START: Final = text(
        "SELECT max(coalesce((SELECT max(position) FROM fusion_operations), 0),"
        " (SELECT position FROM fusion_trimmed WHERE id = 1))"
    )
    # The sequence never falls behind the positions it has given, unless the file was replaced.
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
        """Return the entries behind the last position."""
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

    A server that has crashed reuses the numbers of transactions that were not committed, and a standby that takes over
    reuses the numbers that it had not received: a snapshot is valid for one life of a server. A life is identified by
    the start time of the server and by the time since which it counts the work of its background writer. A crash resets
    that counter.

    Args:
        engines: gives the engines to read with.
    """

    _LIFE: Final = "CAST(pg_postmaster_start_time() AS text) || CAST(pg_stat_get_bgwriter_stat_reset_time() AS text)"
    _START: Final = text(f"SELECT CAST(pg_current_snapshot() AS text), {_LIFE}")
    # The snapshot that the statement reports is the one in which it reads the entries. A transaction that was not
    # visible in the previous snapshot had not begun then, or was running: two conditions that the index answers,
    # however long another transaction runs. The transaction of a visible entry is below the snapshot's end, unless the
    # entry was restored from a dump of another server, which counted higher.
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
        """Begin with the transactions that are not visible now."""
        self._snapshot, self._life = (await _rows(self._engines(), self._START, {}))[0]

    async def read(self) -> Sequence[LogEntry] | None:
        """Return the entries that were not visible the last time."""
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
    """Split a snapshot: its oldest unfinished transaction, the first not begun, and those that run."""
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
