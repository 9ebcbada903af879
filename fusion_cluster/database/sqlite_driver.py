"""SQLite's driver: one message to its thread for each statement, and an event loop that gives way to the thread.

A connection of aiosqlite lives in a thread of its own, and each call of a cursor is a message to the thread and back:
making the cursor, executing, fetching the rows and closing it are four messages. Most statements take far less time
than these. The cursors here do it all with one message. They fetch `FIRST_ROWS` rows with it at most.

A busy event loop releases the interpreter's lock and takes it again each time that it polls. A thread that waits for
the lock is then woken each time, too late, and its request for the lock never times out: a statement took seconds. So
an event loop that has waited for an answer for a while sleeps for an instant, in which the thread gets the lock.

The mark of an operation's transaction (`transaction_watch`) is a row that breaks a deferred foreign key: as long as the
row exists, SQLite refuses each COMMIT, from any sender, and a ROLLBACK removes the row. It lives in a temporary table,
in memory; the operation removes it when it commits.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from threading import Thread
from typing import Any, Final

import aiosqlite
from aiosqlite.context import contextmanager

from fusion_cluster.database.transaction_watch import TransactionWatch
from fusion_cluster.errors import UsageError

FIRST_ROWS: Final = 1_000
"""How many rows come with the statement itself; more rows need another message."""

PATIENCE_S: Final = 0.002
"""After this time without an answer of the thread, the event loop gives way to it; then again after twice as long."""

LONGEST_PAUSE_S: Final = 0.05
"""The longest pause between two times: the thread may be waiting for another process's transaction."""

GIVING_S: Final = 0.0001
"""How long it gives way: with readers that never pause, ten times as long makes no command faster."""


MAKE_MARKS: Final = """
CREATE TEMP TABLE fusion_transaction (
    number INTEGER PRIMARY KEY,
    never INTEGER NOT NULL REFERENCES fusion_transaction (number) DEFERRABLE INITIALLY DEFERRED
)
"""
_SET_MARK: Final = "INSERT INTO temp.fusion_transaction VALUES (?, 0)"
_REMOVE_MARK: Final = "DELETE FROM temp.fusion_transaction WHERE number = ?"


def connect(database: str, **options: Any) -> Connection:
    """As `aiosqlite.connect`, for SQLAlchemy's `async_creator_fn`."""
    connection = Connection(lambda: _open(database, options), iter_chunk_size=64)
    thread: Any = connection if isinstance(connection, Thread) else connection._thread  # before 0.22 it was one itself
    thread.daemon = True  # as SQLAlchemy has it
    return connection


def _open(database: str, options: dict[str, Any]) -> sqlite3.Connection:
    try:
        opened: sqlite3.Connection = sqlite3.connect(database, **options)
    except sqlite3.OperationalError as error:
        folder = os.path.dirname(database)
        if os.path.isdir(database):
            raise UsageError(
                f"the database cannot be opened: {database} is a folder, not a file", field="url"
            ) from error
        if not database.startswith("file:") and not os.path.isdir(folder):
            raise UsageError(
                f"the database {database} cannot be opened: there is no folder {folder}; make it, or name another file",
                field="url",
            ) from error
        error.args = (f"{error}: {database}",)
        raise
    return opened


async def close_cursors(connection: Connection) -> None:
    """Close the cursors that have unfetched rows; a later fetch from them raises an error."""
    for cursor in list(connection.open_cursors):
        cursor.is_cut_off = True
        await cursor.close()


class Connection(aiosqlite.Connection):
    """A connection whose statements take one message each.

    Attributes:
        open_cursors: the cursors with unfetched rows. As long as there is one, reads of the connection outside of a
            transaction see the database as it was when that cursor began.
        is_adrift: the caller of a call was cancelled, and the thread may still be working on it.
        watch: the watch of the operation whose transaction it is in; None: it is not in one.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.watch: TransactionWatch | None = None
        self.open_cursors: set[Cursor] = set()
        self.is_adrift = False
        self._stopping: asyncio.Future[Any] | None = None
        self._tx: Any = _Messages(self._tx)

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread, and remember the future of its end."""
        self._stopping = super().stop()
        return self._stopping

    async def _connect(self) -> Any:
        """Open the file.

        If that fails, the thread ends before the error is raised: its last message goes to the event loop, which may be
        closed right after.
        """
        connect: Any = super()._connect
        try:
            return await connect()
        except Exception:
            if self._stopping is not None:
                await self._stopping
            raise

    async def _execute(self, *arguments: Any, **options: Any) -> Any:
        execute: Any = super()._execute
        with _GivingWay(asyncio.get_running_loop()):
            try:
                return await execute(*arguments, **options)
            except asyncio.CancelledError:
                self.is_adrift = True
                raise

    async def begin(self, watch: TransactionWatch) -> None:
        """Begin the transaction of an operation."""
        await self._execute(self._begin, watch.number)
        self.watch = watch
        watch.is_marked = True
        watch.stands = self._is_in_transaction

    async def commit(self) -> None:
        """Commit, unless it is an operation's transaction and not its end.

        Raises:
            UsageError: it is; or it is its end, and the transaction is another one.
        """
        if self.watch is None:
            await super().commit()
        else:
            self.watch.refuse("commit")
            if not await self._execute(self._commit, self.watch.number):
                raise self.watch.note_lost()

    async def rollback(self) -> None:
        """Roll back, unless it is an operation's transaction and not its end.

        Raises:
            UsageError: it is.
        """
        if self.watch is not None:
            self.watch.refuse("roll back")
        await super().rollback()

    def executescript(self, *arguments: Any, **options: Any) -> Any:
        """Run a script; refused in the transaction of an operation, because a script begins with a COMMIT.

        Raises:
            UsageError: it is in one.
        """
        if self.watch is not None:
            self.watch.refuse("commit")
        return super().executescript(*arguments, **options)

    def _is_in_transaction(self) -> bool:
        return self._connection is None or self.in_transaction  # a closed connection was not ended by a statement

    @contextmanager
    async def cursor(self) -> Any:
        """Make a cursor. The thread learns of it when it executes something."""
        return Cursor(self)

    # -- in the thread -------------------------------------------------------------------------------------------------
    def _begin(self, number: int) -> None:
        self._conn.execute("BEGIN IMMEDIATE")
        self._conn.execute(_SET_MARK, (number,))

    def _commit(self, number: int) -> bool:
        """Commit the transaction if it has the mark; False: it does not, and nothing is committed."""
        if self._conn.execute(_REMOVE_MARK, (number,)).rowcount != 1:
            return False
        self._conn.commit()
        return True


class _Messages:
    """The messages to a connection's thread. In virtual time, no time passes between a message and its answer.

    Args:
        queue: where the thread takes them from.
    """

    __slots__ = ("_queue",)

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def empty(self) -> bool:
        """Whether the thread has taken all of them."""
        return bool(self._queue.empty())

    def put_nowait(self, message: tuple[asyncio.Future[Any] | None, Callable[[], object]]) -> None:
        """Send a message, with the future of its answer."""
        answer = message[0]
        if answer is not None:
            stand_still_for = getattr(answer.get_loop(), "stand_still_for", None)  # of `testing.VirtualTimeLoop`
            if stand_still_for is not None:
                stand_still_for(answer)
        self._queue.put_nowait(message)


class _GivingWay:
    """Gives threads the interpreter's lock for an instant now and then, as long as the block lasts.

    Args:
        loop: the event loop that runs.
    """

    __slots__ = ("_handle", "_loop", "_pause_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pause_s = PATIENCE_S

    def __enter__(self) -> None:
        self._handle = self._loop.call_later(self._pause_s, self._give_way)

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _give_way(self) -> None:
        time.sleep(GIVING_S)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._handle = self._loop.call_later(self._pause_s, self._give_way)


class Cursor:
    """A cursor for one statement after the other, with the parts that SQLAlchemy needs.

    Args:
        connection: the connection that it belongs to.

    Attributes:
        description: the columns of the rows; None if there are none.
        rowcount: how many rows were changed.
        lastrowid: the row that was inserted last.
        arraysize: how many rows `fetchmany` gives by default.
        is_cut_off: rows were left when its connection was given back.
    """

    def __init__(self, connection: Any) -> None:
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1
        self.is_cut_off = False
        self._connection = connection
        # The thread's own cursor, as long as it has unfetched rows.
        self._open: sqlite3.Cursor | None = None
        self._rows: Sequence[Any] = ()

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Cursor:
        """Execute a statement and fetch its first rows."""
        await self._connection._execute(self._run, sqlite3.Cursor.execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Cursor:
        """Execute a statement that gives no rows, with each of the parameters."""
        await self._connection._execute(self._run, sqlite3.Cursor.executemany, sql, parameters)
        return self

    async def fetchone(self) -> Any:
        """Return the next row; None: there is none."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Return the next rows, `size` at most.

        Raises:
            ProgrammingError: the connection was given back meanwhile.
        """
        size = self.arraysize if size is None else size
        self._check()
        if not self._rows and self._open is not None:
            self._rows = await self._connection._execute(self._fetch, self._open, max(size, FIRST_ROWS))
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def fetchall(self) -> Sequence[Any]:
        """Return all remaining rows.

        Raises:
            ProgrammingError: the connection was given back meanwhile.
        """
        self._check()
        rows, self._rows = self._rows, ()
        while self._open is not None:
            rows = [*rows, *await self._connection._execute(self._fetch, self._open, 100 * FIRST_ROWS)]
        return rows

    async def close(self) -> None:
        """Forget the rows."""
        self._rows = ()
        if self._open is not None:
            await self._connection._execute(self._close)

    async def __aenter__(self) -> Cursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while rows := await self.fetchmany(FIRST_ROWS):
            for row in rows:
                yield row

    def _check(self) -> None:
        if self.is_cut_off:
            raise sqlite3.ProgrammingError("the connection was given back before all rows were fetched")

    # -- in the thread -------------------------------------------------------------------------------------------------
    def _run(self, execute: Callable[..., object], sql: str, parameters: Any) -> None:
        self._close()
        self.description, self._rows, self.is_cut_off = None, (), False
        cursor = self._open = self._connection._conn.cursor()
        self._connection.open_cursors.add(self)
        try:
            execute(cursor, sql, parameters)
            self.description, self.lastrowid = cursor.description, cursor.lastrowid
            if self.description is None:
                self._close()
            else:
                self._rows = self._fetch(cursor, FIRST_ROWS)
            self.rowcount = cursor.rowcount
        except BaseException:
            # A cursor still open in the traceback of the error would keep the connection from being closed.
            self._close()
            raise

    def _fetch(self, cursor: sqlite3.Cursor, size: int) -> Sequence[Any]:
        try:
            rows = cursor.fetchmany(size)
        except BaseException:
            self._close()
            raise
        if len(rows) < size:
            self._close()
        return rows

    def _close(self) -> None:
        cursor, self._open = self._open, None
        if cursor is not None:
            cursor.close()
            self._connection.open_cursors.discard(self)
