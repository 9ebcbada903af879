"""Readers of the operation log: each gives the entries that were committed since it looked last, every one once.

Transactions do not commit in the order in which they begin to write, so a position that is missing may be filled later.
SQLite lets one transaction write at a time: there positions appear in order, and the highest one is all that a reader
has to remember. PostgreSQL does not. There a reader remembers the *snapshot* in which it looked last, and asks for the
entries of transactions that were not visible in it and are now: no gap, however late it is filled, and no waiting for
gaps that never will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import TextClause, text

from fusion_cluster.commands.records import LoggedKey
from fusion_cluster.database.operation_log import decode_keys
from fusion_cluster.errors import UsageError

if TYPE_CHECKING:
    from fusion_cluster.database.engines import Engines

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
        """The entries committed since the last call; None: some cannot be had any more, or they are too many."""
        ...


def new_reader(engines: Engines) -> LogReader:
    """A reader for the kind of database.

    Raises:
        UsageError: there is no operation log on databases of this kind.
    """
    kind = engines.reading.dialect.name
    if kind == "sqlite":
        return SQLiteLogReader(engines)
    if kind == "postgresql":
        return PostgreSQLLogReader(engines)
    raise UsageError(f"the operation log needs SQLite or PostgreSQL, this is {kind}", field="url")


class SQLiteLogReader:
    """Reads by position.

    Args:
        engines: to read with.
    """

    _START: Final = text(
        "SELECT max(coalesce((SELECT max(position) FROM fusion_operations), 0),"
        " (SELECT position FROM fusion_trimmed WHERE id = 1))"
    )
    _READ: Final = text(
        "SELECT t.position AS trimmed, o.position, o.operation_id, o.host, o.keys FROM fusion_trimmed t"
        " LEFT JOIN fusion_operations o ON o.position > :position WHERE t.id = 1"
        " ORDER BY o.position LIMIT :limit"
    )

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._position = 0

    async def start(self) -> None:
        """Begin behind the last entry."""
        self._position = (await _rows(self._engines, self._START, {}))[0][0]

    async def read(self) -> Sequence[LogEntry] | None:
        """The entries behind the last position."""
        rows = await _rows(self._engines, self._READ, {"position": self._position, "limit": MAX_ENTRIES + 1})
        if rows[0].trimmed > self._position or len(rows) > MAX_ENTRIES:
            await self.start()
            return None
        if rows[-1].position is not None:
            self._position = rows[-1].position
        return _entries(rows)


class PostgreSQLLogReader:
    """Reads by snapshots (PostgreSQL's documentation, 9.28 "Transaction ID and Snapshot Information").

    Args:
        engines: to read with.
    """

    _START: Final = text("SELECT CAST(pg_current_snapshot() AS text)")
    # The snapshot that the statement reports is the one in which it reads the entries.
    _READ: Final = text(
        "SELECT CAST(s.now AS text) AS snapshot, CAST(s.trimmed AS text) AS trimmed, o.operation_id, o.host, o.keys"
        " FROM (SELECT pg_current_snapshot() AS now, transaction_id AS trimmed FROM fusion_trimmed WHERE id = 1) s"
        " LEFT JOIN fusion_operations o ON o.transaction_id >= CAST(CAST(:xmin AS text) AS xid8)"
        " AND NOT pg_visible_in_snapshot(o.transaction_id, CAST(CAST(:snapshot AS text) AS pg_snapshot))"
        " ORDER BY o.position LIMIT :limit"
    )

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._snapshot = ""

    async def start(self) -> None:
        """Begin with what is not visible now."""
        self._snapshot = (await _rows(self._engines, self._START, {}))[0][0]

    async def read(self) -> Sequence[LogEntry] | None:
        """The entries that were not visible the last time."""
        xmin = self._snapshot.partition(":")[0]
        rows = await _rows(
            self._engines, self._READ, {"xmin": xmin, "snapshot": self._snapshot, "limit": MAX_ENTRIES + 1}
        )
        self._snapshot = rows[0].snapshot
        if int(rows[0].trimmed) >= int(xmin) or len(rows) > MAX_ENTRIES:
            return None
        return _entries(rows)


async def _rows(engines: Engines, statement: TextClause, parameters: dict[str, Any]) -> Sequence[Any]:
    async with engines.read_session() as session:
        return (await session.execute(statement, parameters)).all()


def _entries(rows: Sequence[Any]) -> list[LogEntry]:
    return [LogEntry(row.operation_id, row.host, decode_keys(row.keys)) for row in rows if row.operation_id is not None]
