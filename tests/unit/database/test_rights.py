"""The tables where the app's role may not make them: a deployment does, and grants what docs/database.md says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from fusion_cluster import Database, UsageError
from fusion_cluster.database import schema
from fusion_cluster.database.migrations import NEWEST, VERSION_TABLE, upgrade

pytestmark = pytest.mark.empty_database

pytest_plugins = ["tests.postgres"]

DOCUMENT = Path(__file__).parents[3] / "docs" / "database.md"
ROLE = "shop"


async def run(database: Database, *statements: str) -> None:
    async with database.engines().writing.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


@pytest.fixture
async def owner(postgres_url: str) -> AsyncIterator[Database]:
    """The database as its owner sees it; there is a role that may log in and has no rights."""
    database = Database(postgres_url)
    await run(database, f"CREATE ROLE {ROLE} LOGIN")
    yield database
    await run(database, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")
    await database.dispose()


@pytest.fixture
async def database(owner: Database, postgres_url: str) -> AsyncIterator[Database]:
    """The database as the app sees it."""
    url = make_url(postgres_url).set(username=ROLE)
    database = Database(url.render_as_string(hide_password=False))
    yield database
    await database.dispose()


def documented_grants() -> list[str]:
    (block,) = re.findall(r"^```sql\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return [statement for statement in block.split(";\n") if statement]


async def test_who_may_not_make_the_tables_is_told_what_to_do(database: Database) -> None:
    with pytest.raises(UsageError, match=f"revision {NEWEST}, .*upgrade-database"):
        await database.prepare()


async def test_who_may_not_upgrade_the_tables_is_told_what_to_do(owner: Database, database: Database) -> None:
    await owner.prepare()
    await run(owner, *documented_grants(), f"DELETE FROM {VERSION_TABLE}")
    with pytest.raises(UsageError, match=f"revision {NEWEST}, .*upgrade-database"):
        await database.prepare()


async def test_the_documented_grants_are_enough_for_the_app(owner: Database, database: Database) -> None:
    await owner.prepare()
    await run(owner, *documented_grants())
    await database.prepare()
    assert (await upgrade(database.engines().writing)).before == NEWEST
    await run(
        database,
        "INSERT INTO fusion_operations (operation_id, host, committed_at, keys) VALUES ('1', 'h', 0, '')",
        "INSERT INTO fusion_events (event_id, type, key, slot, payload, emitted_at, first_due_at, due_at, attempts, "
        "state) VALUES ('1', 't', '', 0, '', 0, 0, 0, 0, 'waiting')",
        *(f"DELETE FROM {table}" for table in schema.METADATA.tables),
    )


async def test_a_database_that_is_read_only_says_so(owner: Database, database: Database) -> None:
    await run(owner, f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
    with pytest.raises(UsageError, match="upgrade-database"):
        await database.prepare()


def test_every_table_is_documented() -> None:
    documented = set(re.findall(r"^\| `(fusion_\w+)`", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == {*schema.METADATA.tables, VERSION_TABLE}
    grants = "\n".join(documented_grants())
    assert not [table for table in documented if table not in grants]
