"""Watches the transaction of one operation: only the operation ends it.

An attempt to end the transaction through SQLAlchemy is refused before it takes effect, or else noted. An attempt that
bypasses SQLAlchemy leaves a trace in the database itself: a *mark* is set with the BEGIN, a COMMIT or ROLLBACK removes
it, and the operation looks for it when it commits (`sqlite_driver`, `postgresql_driver`). So an operation never takes
another transaction, or the absence of one, for its own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import ColumnElement, String, bindparam, event, func, literal_column
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from fusion_cluster.commands.transactions import IN_PART, TransactionEnded
from fusion_cluster.errors import UsageError

WATCH: Final = "fusion_watch"
"""The execution option of a connection that holds its watch."""

SETTING: Final = "fusion.transaction"
"""The mark in PostgreSQL: a setting that is local to the transaction."""

INSTEAD: Final = {  # of what is refused
    "commit": "an operation commits when its block ends: leave this out",
    "roll back": f"an operation is rolled back by an exception that leaves its block; {IN_PART}",
    "begin": f"an operation is one transaction, which has begun: leave this out; {IN_PART}",
}
_AFTERWARDS: Final = (
    "the operation has ended, and its session with it: read with `database.session()`, change data in another operation"
)
_MEANS: Final = {
    **dict.fromkeys(("commit", "end", "prepare"), "commit"),
    **dict.fromkeys(("rollback", "abort"), "roll back"),
    **dict.fromkeys(("begin", "start"), "begin"),
}

_BLANK: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/|;)"
_CONTROL: Final = re.compile(
    rf"{_BLANK}*(?:(commit|end|abort|begin|start)\b|(prepare){_BLANK}+transaction\b"
    rf"|(rollback)\b(?!{_BLANK}+(?:(?:work|transaction){_BLANK}+)?to\b))",
    re.IGNORECASE,
)
"""A statement that begins or ends a transaction."""

_BODY: Final = re.compile(
    rf"^{_BLANK}*create{_BLANK}+(?:temp(?:orary)?{_BLANK}+)?trigger\b|\bbegin{_BLANK}+atomic\b", re.IGNORECASE
)
"""A statement that contains statements and an END: a trigger of SQLite, a function of PostgreSQL."""


def _pieces(quoted: str) -> re.Pattern[str]:
    return re.compile(
        rf"\be'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"[^\"]*\"|{quoted}|--[^\n]*|/\*(?:[^*]|\*(?!/))*\*/|(?P<end>;)",
        re.DOTALL | re.IGNORECASE,
    )


_PIECE: Final = _pieces(r"\[[^\]]*\]|`[^`]*`")
_PIECE_OF_POSTGRESQL: Final = _pieces(r"(?<![\w$])(\$\w*\$).*?\1")
"""A piece that may hold a semicolon inside a statement; or a semicolon that ends one."""

_INNERMOST: Final = re.compile(r"/\*(?:(?!/\*|\*/).)*\*/", re.DOTALL)
"""A comment that contains no comment: in PostgreSQL comments may be nested."""

_numbers = itertools.count(1)


class TransactionWatch:
    """The known facts about the transaction of one operation.

    Args:
        is_postgresql: its statements are read as PostgreSQL reads them.

    Attributes:
        number: its number in this process.
        mark: the mark that is set in the database with its BEGIN.
        ended_by: the cause that has ended it too early; "": none known.
        is_ending: the operation itself is ending it.
        is_forgotten: SQLAlchemy counts it as ended, and the database does not.
        is_marked: its mark was set.
        is_postgresql: see Args.
        is_mark_seen: the mark was there when something was written last.
        stands: whether the driver's connection is in a transaction; None until it has begun.
        may_be_committed: it has ended in a way that may have made rows durable, or let later statements do so.
    """

    __slots__ = (
        "ended_by",
        "is_ending",
        "is_forgotten",
        "is_mark_seen",
        "is_marked",
        "is_postgresql",
        "mark",
        "may_be_committed",
        "number",
        "stands",
    )

    def __init__(self, *, is_postgresql: bool) -> None:
        self.is_postgresql = is_postgresql
        self.number = next(_numbers)
        self.mark = str(self.number)
        self.ended_by = ""
        self.is_ending = False
        self.is_forgotten = False
        self.is_marked = False
        self.is_mark_seen = False
        self.stands: Callable[[], bool] | None = None
        self.may_be_committed = False

    @property
    def is_open(self) -> bool:
        """Whether it is open, so that only the operation may end it."""
        return not self.is_ending and not self.ended_by

    def note(self, ended_by: str) -> None:
        """Note that it has ended, or cannot continue."""
        self.ended_by = self.ended_by or ended_by

    def note_lost(self) -> TransactionEnded:
        """Note that it has ended without SQLAlchemy's knowledge; it is unknown what was made durable meanwhile."""
        self.note("a COMMIT or ROLLBACK that did not come from the operation, or that the database has made by itself")
        self.may_be_committed = True
        return self.ended()

    def ended(self) -> TransactionEnded:
        """Return the error for an attempt to continue it."""
        durable = "What was written before may be committed, and is invalidated; the operation commits nothing. "
        return TransactionEnded(
            f"the operation's transaction was ended in its block, by {self.ended_by}. "
            f"{durable if self.may_be_committed else 'Nothing is committed. '}"
            f"Leave that out: an operation commits when its block ends, and {INSTEAD['roll back']}"
        )

    def check(self) -> None:
        """Check that it can continue.

        Raises:
            TransactionEnded: it has ended.
        """
        if not self.ended_by and self.stands is not None and not self.stands():
            raise self.note_lost()
        if self.ended_by:
            raise self.ended()

    def refuse(self, what: str) -> None:
        """Refuse an action that only the operation may take.

        Args:
            what: "commit", "roll back" or "begin".

        Raises:
            UsageError: the operation is open.
        """
        if self.is_open:
            raise UsageError(INSTEAD[what])

    def check_statement(self, sql: str) -> None:
        """Refuse a statement that begins or ends a transaction.

        Raises:
            UsageError: it does.
        """
        if self.is_open and (found := control(sql, is_postgresql=self.is_postgresql)):
            raise UsageError(f"{found.upper()}: {INSTEAD[_MEANS[found]]}")


def control(sql: str, *, is_postgresql: bool) -> str:
    """Return the word by which a statement of a text begins or ends a transaction; "": no statement does.

    A ROLLBACK TO a savepoint does not, nor does the END of a trigger's or a function's body.
    """
    found = _control(sql, _PIECE_OF_POSTGRESQL if is_postgresql else _PIECE)
    if not found and "/*" in sql:
        while (without := _INNERMOST.sub(" ", sql)) != sql:
            sql = without
        found = _control(sql, _PIECE_OF_POSTGRESQL if is_postgresql else _PIECE)
    return found


def _control(sql: str, pieces: re.Pattern[str]) -> str:
    if found := _CONTROL.match(sql):
        return _word(found)
    if ";" not in sql:
        return ""
    bodies = len(_BODY.findall(sql))
    for piece in pieces.finditer(sql):
        if piece["end"] and (found := _CONTROL.match(sql, piece.end())):
            word = _word(found)
            if word != "end" or not bodies:
                return word
            bodies -= 1
    return ""


def _word(found: re.Match[str]) -> str:
    return next(word for word in found.groups() if word).lower()


def set_mark(watch: TransactionWatch) -> str:
    """Return the statement that marks the PostgreSQL transaction in which it is executed."""
    return f"SET LOCAL {SETTING} = '{watch.mark}'"


def marked() -> ColumnElement[bool]:
    """Return the condition, in PostgreSQL, that the transaction has the mark `mark_`."""
    return func.current_setting(literal_column(f"'{SETTING}'"), literal_column("true")) == bindparam(
        "mark_", type_=String()
    )


def watch_transactions(engine: AsyncEngine, begin: Callable[[Connection, TransactionWatch | None], None]) -> None:
    """Let only their operations end the transactions on connections of an engine that have a watch.

    Args:
        engine: an engine that writes.
        begin: begins a transaction, and gives it its mark if there is a watch.
    """

    def on_begin(connection: Connection) -> None:
        watch = watch_of(connection)
        if watch is not None and watch.stands is not None:
            if watch.is_ending:
                raise UsageError(_AFTERWARDS)
            watch.check()
            raise UsageError(INSTEAD["begin"])
        begin(connection, watch)

    def on_commit(connection: Connection) -> None:
        watch = watch_of(connection)
        if watch is not None and watch.is_open:
            watch.note("a commit of its connection, which was refused")
            watch.is_forgotten = True
            raise UsageError(INSTEAD["commit"])

    def on_rollback(connection: Connection) -> None:
        watch = watch_of(connection)
        if watch is not None and watch.is_open:
            if watch.stands is not None and not watch.stands():
                watch.note_lost()
            watch.note("a rollback: that of its session or connection, or of a flush that has failed")

    def on_statement(
        connection: Connection, cursor: object, sql: str, parameters: object, context: object, executemany: bool
    ) -> None:
        watch = watch_of(connection)
        if watch is not None:
            watch.check()
            watch.check_statement(sql)

    for name, listener in (
        ("begin", on_begin),
        ("commit", on_commit),
        ("rollback", on_rollback),
        ("before_cursor_execute", on_statement),
    ):
        event.listen(engine.sync_engine, name, listener)


def watch_of(connection: Connection) -> TransactionWatch | None:
    """Return the watch of a connection's transaction, if it is an operation's."""
    watch: Any = connection.get_execution_options().get(WATCH)
    return watch  # type: ignore[no-any-return]
