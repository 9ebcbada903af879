from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from fusion_cluster.database import Database
from fusion_cluster.errors import UsageError
from tests.apps.shelves import Base, ShelfRow
from tests.waiting import until


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    await database.create_tables(Base.metadata)
    yield database
    await database.dispose()


async def put(database: Database, shelf_id: int, amount: int) -> None:
    async with database.operation() as operation:
        await operation.session.merge(ShelfRow(id=shelf_id, amount=amount))


async def amount(database: Database, shelf_id: int) -> int | None:
    async with database.session() as session:
        row = await session.get(ShelfRow, shelf_id)
        return row.amount if row else None


# -- URLs --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("shop.db", "shop.db"),
        ("", "''"),
        ("nosuch://host/shop", "nosuch"),
        ("sqlite+nosuch:///shop.db", r"sqlite\+nosuch"),
        ("sqlite+pysqlite:///shop.db", "pysqlite"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("mysql://host/shop", "aiomysql"),
        ("postgresql://host:port/shop", "host:port"),
    ],
)
def test_a_bad_url_is_named(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Database(url)
    assert caught.value.field == "url"


@pytest.mark.parametrize("url", ["nosuch://ann:secret@host/shop", "mysql://ann:secret@host/shop", "x//ann:secret@host"])
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_sqlite_file_is_the_same_wherever_the_process_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite:///shop.db")
    monkeypatch.chdir("/")
    assert database.url == f"sqlite+aiosqlite:///{tmp_path}/shop.db"


def test_a_database_travels_as_its_url(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shop.db", busy_timeout_s=3)
    copy = pickle.loads(pickle.dumps(database))
    assert copy.url == database.url
    assert repr(copy) == repr(database)


# -- reading -----------------------------------------------------------------------------------------------------------
async def test_a_session_reads_what_is_committed(database: Database) -> None:
    await put(database, 1, 5)
    async with database.session() as session:
        assert (await session.scalars(select(ShelfRow.amount))).all() == [5]
        await put(database, 1, 6)
        assert (await session.scalars(select(ShelfRow.amount))).all() == [6]
        assert (await session.execute(select(ShelfRow.id, ShelfRow.amount))).one() == (1, 6)
        assert await session.scalar(select(ShelfRow.amount)) == 6
        assert [row.amount async for row in await session.stream_scalars(select(ShelfRow))] == [6]


async def test_a_session_changes_nothing(database: Database) -> None:
    await put(database, 1, 5)
    async with database.session() as session:
        (await session.get_one(ShelfRow, 1)).amount = 6
        with pytest.raises(UsageError, match="operation"):
            await session.commit()
        session.expunge_all()
        session.add(ShelfRow(id=2, amount=1))
        with pytest.raises(UsageError, match="operation"):
            await session.flush()
        session.expunge_all()
        with pytest.raises(OperationalError, match="readonly"):
            await session.execute(update(ShelfRow).values(amount=7))
    assert await amount(database, 1) == 5


async def test_sessions_inside_sessions_never_wait_for_each_other(database: Database) -> None:
    await put(database, 1, 5)

    async def read(depth: int) -> int:
        async with database.session() as session:
            own = (await session.get_one(ShelfRow, 1)).amount
            return own if depth == 0 else await read(depth - 1)

    assert await asyncio.wait_for(asyncio.gather(*(read(10) for _ in range(50))), 20) == [5] * 50


async def test_a_burst_of_reads_uses_few_threads(database: Database) -> None:
    await put(database, 1, 5)
    before = threading.active_count()
    await asyncio.gather(*(amount(database, 1) for _ in range(200)))
    assert threading.active_count() - before <= 4


async def test_a_cancelled_wait_for_a_slot_reads_nothing(database: Database) -> None:
    readers = database.engines().readers
    while not readers.locked():
        await readers.acquire()
    reads = [asyncio.create_task(amount(database, 1)) for _ in range(3)]
    await asyncio.sleep(0)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert all(read.cancelled() for read in reads)


# -- writing -----------------------------------------------------------------------------------------------------------
async def test_foreign_keys_are_enforced_and_the_journal_is_a_wal(database: Database) -> None:
    async with database.operation() as operation:
        assert await operation.session.scalar(text("PRAGMA foreign_keys")) == 1
        assert await operation.session.scalar(text("PRAGMA journal_mode")) == "wal"


async def test_an_operation_takes_the_write_lock_with_its_first_statement(database: Database, tmp_path: Path) -> None:
    await put(database, 1, 5)
    other = sqlite3.connect(tmp_path / "shelves.db", timeout=0)
    async with database.operation() as operation:
        await operation.session.get(ShelfRow, 1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert await amount(database, 1) == 5
    other.execute("BEGIN IMMEDIATE")
    other.rollback()
    other.close()


async def test_an_operation_that_cannot_get_the_write_lock_in_time_fails_and_the_next_succeeds(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shelves.db", busy_timeout_s=0.05)
    await database.create_tables(Base.metadata)
    other = sqlite3.connect(tmp_path / "shelves.db")
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        with pytest.raises(OperationalError, match="locked"):
            await put(database, 1, 5)
    other.rollback()
    await put(database, 1, 6)
    assert await amount(database, 1) == 6
    other.close()
    await database.dispose()


async def test_a_new_file_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "shelves.db")
    other.execute("CREATE TABLE other (id)")
    other.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    creating = asyncio.create_task(database.create_tables(Base.metadata))
    assert not (await asyncio.wait([creating], timeout=0.2))[0], "it waits, and does not fail"
    other.commit()
    other.close()
    await creating
    await database.dispose()


async def test_tables_can_be_created_again_and_at_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path}/shelves.db") for _ in range(5)]
    await asyncio.gather(*(database.create_tables([Base.metadata]) for database in databases))
    await databases[0].create_tables(Base.metadata)
    await asyncio.gather(*(database.dispose() for database in databases))


# -- life --------------------------------------------------------------------------------------------------------------
async def test_nothing_is_opened_before_the_first_use_nor_left_after_disposal(tmp_path: Path) -> None:
    before = threading.active_count()
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    assert os.listdir(tmp_path) == []
    await database.dispose()
    await database.create_tables(Base.metadata)
    await put(database, 1, 5)
    assert await amount(database, 1) == 5
    assert threading.active_count() > before
    await database.dispose()
    await until(lambda: threading.active_count() == before)
    assert await amount(database, 1) == 5
    await database.dispose()


def test_a_database_serves_one_event_loop_after_the_other(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shelves.db")

    async def use(value: int) -> None:
        await database.create_tables(Base.metadata)
        await put(database, 1, value)
        assert await amount(database, 1) == value
        await database.dispose()

    for value in range(3):
        asyncio.run(use(value))
    assert not database._engines


def test_engines_of_closed_loops_are_dropped(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shelves.db")

    async def touch() -> None:
        database.session()

    for _ in range(3):
        asyncio.run(touch())
    assert len(database._engines) == 1


def test_a_forked_process_opens_its_own_connections(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shelves.db")

    async def use(value: int) -> None:
        await database.create_tables(Base.metadata)
        await put(database, value, value)
        await database.dispose()

    asyncio.run(use(1))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(use(2))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    async def check() -> None:
        assert await amount(database, 2) == 2
        await database.dispose()

    asyncio.run(check())
