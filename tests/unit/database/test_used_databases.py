"""A database of PostgreSQL that a test has used is as new for the next test, or is not used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.used_databases import look_at, make_new

if TYPE_CHECKING:
    from tests.postgres import Administrator

pytest_plugins = ["tests.postgres"]

PASSING = [
    "INSERT INTO fusion_commands VALUES ('a', 'b', NULL, NULL, 1)",
    "INSERT INTO fusion_operations VALUES (DEFAULT, 'a', 'b', NULL, NULL, 'c', 1, '')",
    "BEGIN; INSERT INTO fusion_operations VALUES (DEFAULT, 'a', '', NULL, NULL, '', 1, ''); ROLLBACK",
    "UPDATE fusion_trimmed SET position = 7, transaction_id = 3",
    "DELETE FROM fusion_schema_version",
    "CREATE TABLE shop (id serial PRIMARY KEY, name text UNIQUE); INSERT INTO shop (name) VALUES ('corner')",
    "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a); CREATE VIEW c AS SELECT * FROM b",
    'CREATE TABLE "Odd name" (id int); ANALYZE',
    "CREATE TRIGGER t BEFORE UPDATE ON fusion_commands EXECUTE FUNCTION suppress_redundant_updates_trigger();"
    "DROP TRIGGER t ON fusion_commands",
    "SELECT pg_advisory_lock(1)",
]
LASTING = [
    "ALTER TABLE fusion_commands ADD COLUMN more int",
    "ALTER TABLE fusion_commands DROP COLUMN outcome",
    "ALTER TABLE fusion_commands ALTER COLUMN fingerprint SET NOT NULL",
    "DROP TABLE fusion_sessions",
    "DROP TABLE fusion_sessions; CREATE TABLE fusion_sessions (session_id text)",
    "CREATE INDEX more ON fusion_commands (command)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER t BEFORE UPDATE ON fusion_commands EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE TYPE colour AS ENUM ('red')",
    "CREATE SCHEMA more",
    "REVOKE ALL ON fusion_commands FROM CURRENT_USER",
    "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = 1', current_database()); END $$",
]


async def use(administrator: Administrator, statements: str) -> tuple[str, object, asyncpg.Connection]:
    """Lend a database, and do something in it; return its name, what was in it, and a connection that is left open."""
    name = administrator.lend(is_empty=False)
    connection = await asyncpg.connect(administrator.server.get_uri(database=name))
    before = await contents(connection)
    await connection.execute(statements)
    return name, before, connection


async def contents(connection: asyncpg.Connection) -> object:
    """All rows of all tables, what the sequences give next, and the locks of sessions."""
    tables = await connection.fetch(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace = 'public'::regnamespace"
    )
    return (
        {table: await connection.fetch(f"SELECT * FROM {table}") for (table,) in sorted(tables)},
        await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    )


@pytest.mark.parametrize("statements", PASSING)
async def test_what_a_test_did_is_gone_for_the_next(postgres_administrator: Administrator, statements: str) -> None:
    name, before, connection = await use(postgres_administrator, statements)
    postgres_administrator.take_back(name)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.execute("SELECT 1")
    connection.terminate()
    same, after, connection = await use(postgres_administrator, "SELECT 1")
    assert same == name
    assert after == before
    await connection.close()
    postgres_administrator.take_back(name)


@pytest.mark.parametrize("statements", LASTING)
async def test_a_database_that_is_another_one_now_is_found(
    postgres_administrator: Administrator, statements: str
) -> None:
    name, _, connection = await use(postgres_administrator, "SELECT 1")
    new = await look_at(connection)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statements)
    assert not await make_new(connection, new)
    await transaction.rollback()
    assert await make_new(connection, new)
    await connection.close()
    postgres_administrator.take_back(name)


async def test_a_database_that_is_another_one_now_is_not_used_again(postgres_administrator: Administrator) -> None:
    name, before, connection = await use(postgres_administrator, LASTING[0])
    postgres_administrator.take_back(name)
    connection.terminate()
    other, after, connection = await use(postgres_administrator, "SELECT 1")
    assert other != name
    assert after == before
    assert await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name) == 0
    await connection.close()
    postgres_administrator.take_back(other)
