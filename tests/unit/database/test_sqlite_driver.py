"""The cursors that ask SQLite's thread once for each statement, beside those of aiosqlite."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from fusion_cluster import Database, UsageError
from fusion_cluster.database import sqlite_driver
from tests.waiting import until

MANY = 2 * sqlite_driver.FIRST_ROWS + 5


class Counted(sqlite_driver.Connection):
    """Counts the messages to its thread."""

    messages = 0

    async def _execute(self, *arguments: Any, **options: Any) -> Any:
        self.messages += 1
        call: Any = super()._execute
        return await call(*arguments, **options)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Counted]:
    path = str(tmp_path / "numbers.db")
    connection = Counted(lambda: sqlite3.connect(path, isolation_level=None), iter_chunk_size=64)
    async with connection:
        await connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, name TEXT)")
        await connection.execute("BEGIN")
        await connection.executemany("INSERT INTO numbers VALUES (?, 'x')", [(n,) for n in range(MANY)])
        await connection.commit()
        connection.messages = 0
        yield connection


async def test_a_statement_and_its_rows_are_one_message(connection: Counted) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT n, name FROM numbers WHERE n < ?", (3,))
        assert [column[0] for column in cursor.description] == ["n", "name"]
        assert await cursor.fetchall() == [(0, "x"), (1, "x"), (2, "x")]
        assert not await cursor.fetchall()
        await cursor.execute("UPDATE numbers SET name = 'y' WHERE n < 5")
        assert (cursor.description, cursor.rowcount) == (None, 5)
        await cursor.execute("INSERT INTO numbers (name) VALUES ('z') RETURNING n")
        assert await cursor.fetchone() == (MANY,)
        assert (cursor.rowcount, cursor.lastrowid) == (1, MANY)
    assert connection.messages == 3


async def test_of_many_rows_the_first_come_at_once_and_the_others_when_they_are_asked_for(connection: Counted) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT n FROM numbers ORDER BY n")
        assert await cursor.fetchmany(2) == [(0,), (1,)]
        assert await cursor.fetchone() == (2,)
        assert await cursor.fetchmany() == [(3,)]
        assert connection.messages == 1
        assert [row[0] for row in await cursor.fetchall()] == list(range(4, MANY))
        assert await cursor.fetchone() is None
        await cursor.execute("SELECT n FROM numbers ORDER BY n")
        assert [row[0] async for row in cursor] == list(range(MANY))


async def test_rows_that_nobody_wants_any_more_are_forgotten(connection: Counted) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT n FROM numbers")
        await cursor.close()
        assert not await cursor.fetchall()
    await connection.execute("DROP TABLE numbers")  # which a statement under way would keep from it


async def test_an_error_is_that_of_sqlite_and_the_cursor_goes_on(connection: Counted) -> None:
    async with connection.cursor() as cursor:
        with pytest.raises(sqlite3.IntegrityError):
            await cursor.execute("INSERT INTO numbers (n) VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await cursor.execute("SELECT * FROM letters")
        assert not await cursor.fetchall()
        await cursor.executemany("DELETE FROM numbers WHERE n = ?", [(1,), (2,)])
        assert cursor.rowcount == 2


async def test_a_connection_is_closed_although_somebody_has_kept_an_error_of_it(tmp_path: Path) -> None:
    path = str(tmp_path / "numbers.db")
    async with sqlite_driver.connect(path, isolation_level=None) as failing, failing.cursor() as cursor:
        await cursor.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
        await cursor.execute("BEGIN IMMEDIATE")
        await cursor.execute("INSERT INTO numbers VALUES (1) RETURNING n")
        with pytest.raises(sqlite3.IntegrityError) as kept:
            await cursor.execute("INSERT INTO numbers VALUES (1)")
    async with sqlite_driver.connect(path, isolation_level=None, timeout=0) as other, other.cursor() as cursor:
        await cursor.execute("INSERT INTO numbers VALUES (1)")
    assert "UNIQUE" in str(kept.value)


async def test_operations_stream_more_rows_than_come_at_once(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/numbers.db")
    count = text(
        f"WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY - 1}) SELECT n FROM c"
    )
    async with database.operation() as operation:
        assert (await operation.session.scalars(count)).all() == list(range(MANY))
        connection: AsyncConnection = await operation.session.connection()
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, aiosqlite.Connection)
        async with connection.stream(count) as rows:
            assert [row.n async for row in rows] == list(range(MANY))
    await database.dispose()


# -- rows that were not fetched ----------------------------------------------------------------------------------------
Kept = list[Any]


async def stream_of_a_connection(session: AsyncSession, kept: Kept) -> None:
    rows = await (await session.connection()).stream(text("SELECT n FROM numbers"))
    assert await rows.fetchone() is not None
    kept.append(rows)


async def rows_of_a_plain_session(session: AsyncSession, kept: Kept) -> None:
    def read(plain: Session) -> None:
        rows = plain.execute(text("SELECT n FROM numbers"), execution_options={"yield_per": 10})
        assert rows.fetchone() is not None
        kept.append(rows)

    await session.run_sync(read)


async def cursor_of_the_driver(session: AsyncSession, kept: Kept) -> None:
    driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
    cursor = await driver.cursor()
    await cursor.execute("SELECT n FROM numbers")
    kept.append(cursor)


async def cut_off_stream(session: AsyncSession, kept: Kept) -> None:
    """Cancelled while the thread is at it."""
    connection = await session.connection()
    streaming = asyncio.create_task(stream_of_a_connection(session, kept))
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await until(lambda: not driver._tx.empty() or streaming.done(), what="a message to the thread")
    streaming.cancel()
    await asyncio.wait((streaming,))


@pytest.fixture
async def numbers(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/numbers.db")
    async with database.operation() as operation:
        await operation.session.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
        for n in range(MANY):
            await operation.session.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": n})
    yield database
    await database.dispose()


async def count(database: Database) -> int:
    async with database.session() as session:
        found: int = (await session.scalars(text("SELECT count(*) FROM numbers"))).one()
        return found


@pytest.mark.parametrize(
    "leave", [stream_of_a_connection, rows_of_a_plain_session, cursor_of_the_driver, cut_off_stream]
)
async def test_rows_that_somebody_keeps_let_no_later_read_see_what_was_there_then(
    numbers: Database, leave: Callable[[AsyncSession, Kept], Awaitable[None]]
) -> None:
    kept: Kept = []
    for left in range(MANY, MANY - 12, -1):  # more often than there are connections
        assert await count(numbers) == left
        async with numbers.session() as session:
            await leave(session, kept)
        async with numbers.operation() as operation:
            await operation.session.execute(text("DELETE FROM numbers WHERE n = :n"), {"n": left - 1})
        assert await count(numbers) == left - 1


async def test_who_fetches_more_of_them_is_told_that_the_connection_is_gone(numbers: Database) -> None:
    kept: Kept = []
    async with numbers.session() as session:
        await cursor_of_the_driver(session, kept)
    for fetch in (kept[0].fetchone, kept[0].fetchmany, kept[0].fetchall):
        with pytest.raises(sqlite3.ProgrammingError, match="given back"):
            await fetch()


async def test_a_row_that_cannot_be_read_closes_its_cursor(tmp_path: Path) -> None:
    path = str(tmp_path / "numbers.db")
    connection = sqlite_driver.connect(path, isolation_level=None)
    async with connection, connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE names (n INTEGER PRIMARY KEY, name TEXT)")
        await cursor.executemany("INSERT INTO names VALUES (?, 'x')", [(n,) for n in range(MANY)])
        await cursor.execute(f"UPDATE names SET name = CAST(x'ff' AS TEXT) WHERE n = {MANY - 1}")
        await cursor.execute("SELECT name FROM names ORDER BY n")
        assert connection.open_cursors
        with pytest.raises(sqlite3.OperationalError, match="decode"):
            await cursor.fetchall()
        assert not connection.open_cursors
        await cursor.execute("DROP TABLE names")


async def test_a_connection_of_which_a_call_was_cancelled_is_not_used_again(numbers: Database) -> None:
    """Its thread may begin with that only when somebody else has the connection."""
    is_busy, gate = threading.Event(), threading.Event()

    def be_busy() -> None:
        is_busy.set()
        gate.wait(10)

    async def driver_of(session: AsyncSession) -> Any:
        return (await (await session.connection()).get_raw_connection()).driver_connection

    async with numbers.session() as session:
        driver = await driver_of(session)
        busy = asyncio.create_task(driver._execute(be_busy))
        await until(is_busy.is_set, what="the thread, to be busy,")
        queued = asyncio.create_task(driver._execute(int))
        await asyncio.sleep(0)
        queued.cancel()
        await asyncio.wait((queued,))
        gate.set()
    await busy
    async with numbers.session() as session:
        assert await driver_of(session) is not driver


@pytest.mark.parametrize(
    ("path", "said"),
    [("sub/none.db", "no folder"), ("folder", "is a folder"), ("text.db", "is not a database of SQLite")],
)
async def test_a_file_that_cannot_be_is_named(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("a text, and not a database at all\n" * 100)
    database = Database(f"sqlite:///{tmp_path}/{path}")
    for use in (database.prepare, lambda: database.create_tables(MetaData()), database.operation().__aenter__):
        with pytest.raises(UsageError, match=said) as caught:
            await use()
        assert str(tmp_path / path) in str(caught.value)
        assert caught.value.field == "url"
    with pytest.raises(UsageError, match=said):
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
    await database.dispose()


def test_the_thread_of_a_file_that_cannot_be_opened_has_ended_with_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        threads.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    stop = aiosqlite.Connection.stop

    def slow_stop(self: aiosqlite.Connection) -> object:
        self._tx.put_nowait((None, lambda: threading.Event().wait(0.05)))  # the loop would be closed by then
        return stop(self)

    monkeypatch.setattr(aiosqlite.Connection, "stop", slow_stop)
    with pytest.raises(UsageError, match="no folder"):
        asyncio.run(Database(f"sqlite:///{tmp_path}/sub/none.db").prepare())
    assert threads
    for thread in threads:
        thread.join(10)  # what it raises, pytest makes an error of
        assert not thread.is_alive()


@pytest.mark.parametrize("url", [None, 5, b"sqlite:///shop.db", Path("shop.db")])
def test_what_is_not_a_url_is_named(url: Any) -> None:
    with pytest.raises(UsageError, match="not a database URL") as caught:
        Database(url)
    assert repr(url) in str(caught.value)
