"""Statements that pass SQLAlchemy by: what they do, and that their errors are those of SQLAlchemy."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from fusion_cluster import Database
from fusion_cluster.database.driver_statements import DirectInsert, execute_directly
from fusion_cluster.failures.failure import is_transient
from tests.waiting import until_so

pytest_plugins = ["tests.databases"]

THINGS = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("content", LargeBinary, nullable=True),
)


@pytest.fixture(autouse=True)
async def things(database: Database) -> None:
    await database.create_tables(THINGS.metadata)


async def insert(database: Database, *rows: tuple[object, ...]) -> None:
    insertion = DirectInsert(THINGS, ["name", "content"])
    async with database.engines().writing.begin() as connection:
        for row in rows:
            await connection.run_sync(insertion.execute, row)


async def test_rows_are_inserted_in_the_transaction(database: Database) -> None:
    await insert(database, ("it's", b"\0"), ("%s :a ?", None))
    with pytest.raises(IntegrityError):
        await insert(database, ("third", None), ("it's", None))
    async with database.session() as session:
        rows = (await session.execute(select(THINGS.c.name, THINGS.c.content).order_by(THINGS.c.id))).all()
    assert rows == [("it's", b"\0"), ("%s :a ?", None)]


async def test_an_error_says_what_sqlalchemy_would_say(database: Database) -> None:
    engine, refused = database.engines().writing, "INSERT INTO things (name) VALUES (NULL)"
    with pytest.raises(DBAPIError) as directly:
        async with engine.begin() as connection:
            await connection.run_sync(execute_directly, refused)
    with pytest.raises(DBAPIError) as ordinarily:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(refused)
    assert type(directly.value) is type(ordinarily.value) is IntegrityError
    assert type(directly.value.orig) is type(ordinarily.value.orig)
    assert directly.value.statement == ordinarily.value.statement
    assert not directly.value.connection_invalidated


async def test_a_connection_that_is_lost_is_said_to_be_and_replaced(database: Database) -> None:
    if not database.url.startswith("postgresql"):
        pytest.skip("a file is not lost")
    async with database.engines().writing.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        async with database.session() as session:
            await session.execute(text(f"SELECT pg_terminate_backend({pid})"))
        with pytest.raises(DBAPIError) as lost:
            await connection.run_sync(execute_directly, "INSERT INTO things (name) VALUES ('a')")
        assert lost.value.connection_invalidated
        assert is_transient(lost.value)
        await connection.rollback()
        assert await connection.scalar(text("SELECT pg_backend_pid()")) != pid


async def test_one_that_is_cancelled_leaves_no_connection_behind_that_may_be_at_it(database: Database) -> None:
    if not database.url.startswith("postgresql"):
        pytest.skip("SQLite's calls are finished")

    async def sleeps() -> bool:
        async with database.session() as session:
            found = await session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")
            )
            return bool(found)

    async with database.engines().writing.connect() as connection:
        await connection.begin()
        running = asyncio.create_task(connection.run_sync(execute_directly, "SELECT pg_sleep(60)"))
        await until_so(sleeps)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert connection.invalidated
