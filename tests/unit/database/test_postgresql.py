"""The database on a real PostgreSQL: what differs from SQLite, and what must not."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextvars import Context
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Executable, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from fusion_cluster import App, Database, UsageError
from tests.apps.shelves import Base, ShelfRow, Shelves, Stock

if TYPE_CHECKING:
    from fusion_cluster.host import LocalHost

pytest_plugins = ["tests.postgres"]

OTHERS = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.create_tables(Base.metadata)
    yield database
    await database.dispose()


@pytest.fixture
async def host(database: Database) -> AsyncIterator[LocalHost]:
    async with App("shelves", [Shelves, Stock], database=database).local() as host:
        yield host
        host.graph.validate()


async def put(database: Database, shelf_id: int, amount: int) -> None:
    async with database.operation() as operation:
        await operation.session.merge(ShelfRow(id=shelf_id, amount=amount))


async def amount(database: Database, shelf_id: int) -> int | None:
    async with database.session() as session:
        row = await session.get(ShelfRow, shelf_id)
        return row.amount if row else None


async def backends(database: Database, what: str = "true") -> int:
    """How many connections of this database, but the one that asks, are so."""
    async with database.session() as session:
        found: int = (await session.execute(text(f"SELECT count(*) FROM {OTHERS} AND {what}"))).scalar_one()
        return found


async def until_backends(database: Database, what: str, count: int) -> None:
    """Ask the server until that many connections are so."""
    async with asyncio.timeout(20):
        while await backends(database, what) != count:
            pass


async def terminate(database: Database, what: str = "true") -> None:
    """End the connections of this database, but the one that asks, that are so."""
    async with database.session() as session:
        await session.execute(text(f"SELECT pg_terminate_backend(pid) FROM {OTHERS} AND {what}"))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_it_is_found_by_each_of_its_schemes(postgres_url: str, scheme: str) -> None:
    database = Database(postgres_url.replace("postgresql:", f"{scheme}:"))
    async with database.session() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await database.dispose()


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(UsageError, match=r"fusion-cluster\[postgresql\]"):
        Database("postgresql://ann@host/shop")


# -- reading -----------------------------------------------------------------------------------------------------------
async def test_a_session_reads_what_is_committed(database: Database) -> None:
    await put(database, 1, 5)
    async with database.session() as session:
        assert (await session.scalars(select(ShelfRow.amount))).all() == [5]
        await put(database, 1, 6)
        assert (await session.scalars(select(ShelfRow.amount))).all() == [6]
        assert (await session.execute(select(ShelfRow.id, ShelfRow.amount))).one() == (1, 6)
        assert [row.amount async for row in await session.stream_scalars(select(ShelfRow))] == [6]
        assert await session.scalar(select(ShelfRow.amount)) == 6
    assert await backends(database, "state <> 'idle'") == 0, "a read leaves no transaction open"


async def test_a_session_changes_nothing(database: Database) -> None:
    await put(database, 1, 5)
    for change in (
        update(ShelfRow).values(amount=7),
        insert(ShelfRow).values(id=2, amount=1),
        text("DELETE FROM shelves"),
        text("CREATE TABLE other (id integer)"),
        text("TRUNCATE shelves"),
    ):
        async with database.session() as session:
            with pytest.raises(DBAPIError, match="read-only"):
                await session.execute(change)
    async with database.session() as session:
        (await session.get_one(ShelfRow, 1)).amount = 6
        with pytest.raises(UsageError, match="operation"):
            await session.commit()
    assert await amount(database, 1) == 5
    await put(database, 1, 8)
    assert await amount(database, 1) == 8


async def test_sessions_inside_sessions_never_wait_for_each_other(database: Database) -> None:
    await put(database, 1, 5)

    async def read(depth: int) -> int:
        async with database.session() as session:
            own = (await session.get_one(ShelfRow, 1)).amount
            return own if depth == 0 else await read(depth - 1)

    assert await asyncio.wait_for(asyncio.gather(*(read(10) for _ in range(50))), 60) == [5] * 50
    assert await backends(database) <= 16


async def test_a_cancelled_read_ends_on_the_server_too(database: Database, postgres_url: str) -> None:
    async with database.operation() as operation:
        await operation.session.execute(text("LOCK TABLE shelves IN ACCESS EXCLUSIVE MODE"))
        reads = [asyncio.create_task(amount(database, 1)) for _ in range(20)]
        look_ups = [asyncio.create_task(database.loader(ShelfRow).load(number), context=Context()) for number in (1, 2)]
        watcher = Database(postgres_url)
        await until_backends(watcher, "wait_event_type = 'Lock'", 8)
        for task in (*reads, *look_ups):
            task.cancel()
        await asyncio.wait([*reads, *look_ups])
        await until_backends(watcher, "wait_event_type = 'Lock'", 0)
        await watcher.dispose()
    assert await asyncio.gather(*(amount(database, 1) for _ in range(20))) == [None] * 20


async def invalidate_and(shelves: Shelves, statement: Executable) -> None:
    """An operation that invalidates, and then executes a statement."""
    async with shelves.database.operation() as operation:
        shelves.amount.invalidate(1)
        await operation.session.execute(statement)


# -- writing -----------------------------------------------------------------------------------------------------------
async def test_an_operation_is_committed_or_rolled_back(host: LocalHost, database: Database) -> None:
    shelves = host.service(Shelves)
    total = shelves.total(1, 2)
    assert await total == 0
    assert await shelves.put(1, 5) == "1 holds 5"
    assert not total.is_consistent
    assert await shelves.total(1, 2) == 5
    await host.service(Stock).move(1, 2, 3)
    assert (await shelves.amount(1), await shelves.amount(2)) == (2, 3)
    kept = shelves.total(1, 2)
    assert await kept == 5
    with pytest.raises(IntegrityError):
        await invalidate_and(shelves, insert(ShelfRow).values(id=1, amount=1))
    assert kept.is_consistent
    assert await amount(database, 1) == 2


async def test_a_savepoint_is_rolled_back_alone(database: Database) -> None:
    async with database.operation() as outer:
        outer.session.add(ShelfRow(id=1, amount=1))
        with pytest.raises(IntegrityError):
            async with database.operation() as inner:
                await inner.session.execute(insert(ShelfRow).values(id=1, amount=2))
        outer.session.add(ShelfRow(id=2, amount=2))
    assert [await amount(database, shelf_id) for shelf_id in (1, 2)] == [1, 2]


async def test_a_cancelled_operation_is_rolled_back_and_gives_its_connection_back(database: Database) -> None:
    await put(database, 1, 1)
    async with database.operation() as holding:
        await holding.session.execute(update(ShelfRow).values(amount=2))
        blocked = [asyncio.create_task(put(database, 1, 3), context=Context()) for _ in range(7)]
        await until_backends(database, "wait_event_type = 'Lock'", 7)
        for task in blocked:
            task.cancel()
        await asyncio.wait(blocked)
        assert all(task.cancelled() for task in blocked)
    assert await amount(database, 1) == 2
    await asyncio.gather(*(put(database, number, number) for number in range(20)))
    assert await backends(database, "state LIKE 'idle in%'") == 0


async def test_a_commit_that_the_database_refuses_invalidates_nothing(host: LocalHost, database: Database) -> None:
    shelves = host.service(Shelves)
    async with database.operation() as operation:
        await operation.session.execute(
            text("CREATE TABLE owners (shelf integer REFERENCES shelves DEFERRABLE INITIALLY DEFERRED)")
        )
    kept = shelves.amount(1)
    await kept
    with pytest.raises(IntegrityError, match="foreign key"):
        await invalidate_and(shelves, text("INSERT INTO owners VALUES (9)"))
    assert kept.is_consistent
    await put(database, 1, 5)


async def test_a_commit_in_doubt_that_was_not_made_is_made_by_running_the_command_again(
    host: LocalHost, database: Database
) -> None:
    shelves = host.service(Shelves)
    async with database.operation() as operation:
        for statement in (
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$",
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON shelves DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION dawdle()",
        ):
            await operation.session.execute(text(statement))
    shown = shelves.amount(1)
    await shown
    putting = asyncio.create_task(shelves.put(1, 5))
    await until_backends(database, "wait_event = 'PgSleep'", 1)
    async with database.operation() as operation:
        await operation.session.execute(
            text("CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
        )
    await terminate(database, "wait_event = 'PgSleep'")
    assert await putting == "1 holds 5"
    assert not shown.is_consistent
    assert await shelves.amount(1) == 5


# -- life --------------------------------------------------------------------------------------------------------------
async def test_connections_that_the_server_has_dropped_are_replaced(database: Database, postgres_url: str) -> None:
    await asyncio.gather(*(put(database, number, number) for number in range(8)))
    await asyncio.gather(*(amount(database, number) for number in range(8)))
    other = Database(postgres_url)
    await terminate(other)
    await other.dispose()
    assert await asyncio.gather(*(amount(database, number) for number in range(8))) == list(range(8))
    await asyncio.gather(*(put(database, number, 9) for number in range(8)))


async def test_tables_can_be_created_again_and_at_once(postgres_url: str) -> None:
    databases = [Database(postgres_url) for _ in range(5)]
    await asyncio.gather(*(database.create_tables([Base.metadata]) for database in databases))
    await databases[0].create_tables(Base.metadata)
    await asyncio.gather(*(database.dispose() for database in databases))


def test_a_database_serves_one_event_loop_after_the_other_and_forked_processes(postgres_url: str) -> None:
    database = Database(postgres_url)

    async def use(value: int) -> None:
        await database.create_tables(Base.metadata)
        await put(database, 1, value)
        assert await amount(database, 1) == value
        assert await database.loader(ShelfRow).load(1) is not None
        await database.dispose()

    for value in range(2):
        asyncio.run(use(value))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(use(2))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(use(3))
