"""The revisions: what they make is what `schema` says, and what is not the library's is left alone."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from fusion_cluster import Database, UsageError
from fusion_cluster.database import schema
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.database.migrations import (
    NEWEST,
    VERSION_TABLE,
    Upgrade,
    find_revision,
    revisions,
    upgrade,
    upgrading,
)

pytest_plugins = ["tests.databases"]

# Alembic says so of the column that SQLAlchemy has no type for.
pytestmark = [pytest.mark.empty_database, pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")]

ROOT = Path(__file__).parents[3]
VERSIONS = revisions.FOLDER / "versions"
FOR_POSTGRESQL_ALONE = {"transaction_id", "ix_fusion_operations_transaction_id"}

T = TypeVar("T")


async def ask(database: Database, question: Callable[[Connection], T]) -> T:
    async with database.engines().reading.connect() as connection:
        return await connection.run_sync(question)


async def run(database: Database, *statements: str) -> None:
    async with database.engines().writing.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.session() as session:
        return [tuple(row) for row in await session.execute(text(statement))]


async def tables(database: Database) -> set[str]:
    return set(await ask(database, lambda connection: inspect(connection).get_table_names()))


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or str(name).startswith("fusion_")


def documented_filter() -> Callable[..., bool]:
    """What docs/database.md has for the env.py of an app."""
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "database.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(block, names)
    found: Callable[..., bool] = names["include_name"]
    return found


def differences(connection: Connection, metadata: MetaData, **options: Any) -> list[Any]:
    options = {"compare_type": True, "compare_server_default": True, **options}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_the_tables_are_those_of_the_schema(database: Database) -> None:
    assert await upgrade(database.engines().writing) == Upgrade(None, NEWEST)
    assert await tables(database) == {*schema.METADATA.tables, VERSION_TABLE}
    options = {"include_name": is_ours, "version_table": VERSION_TABLE}
    found = await ask(database, lambda connection: differences(connection, schema.METADATA, **options))
    if database.engines().writing.dialect.name == "postgresql":
        assert {(kind, item.name) for kind, *_, item in found} == {
            ("remove_column", "transaction_id"),
            ("remove_index", "ix_fusion_operations_transaction_id"),
        }
    else:
        assert found == []


async def test_a_difference_from_the_schema_would_be_found(database: Database) -> None:
    await database.prepare()
    await run(database, "DROP INDEX ix_fusion_events_key_position", "ALTER TABLE fusion_sessions DROP COLUMN details")
    options = {"include_name": is_ours, "version_table": VERSION_TABLE}
    found = await ask(database, lambda connection: differences(connection, schema.METADATA, **options))
    names = {item.name for _, *_, item in found} - FOR_POSTGRESQL_ALONE
    assert names == {"ix_fusion_events_key_position", "details"}


@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("fusion_operations", "operation_id, host, committed_at, keys", "'{id}', 'h', 0, ''"),
        (
            "fusion_events",
            "event_id, type, key, slot, payload, emitted_at, first_due_at, due_at, attempts, state",
            "'{id}', 't', '', 0, '', 0, 0, 0, 0, 'waiting'",
        ),
    ],
)
async def test_a_position_is_given_once_also_when_its_row_is_gone(
    database: Database, table: str, columns: str, values: str
) -> None:
    await database.prepare()
    for number in range(3):
        await run(database, f"INSERT INTO {table} ({columns}) VALUES ({values.format(id=number)})")
    await run(database, f"DELETE FROM {table}")
    await run(database, f"INSERT INTO {table} ({columns}) VALUES ({values.format(id='last')})")
    assert await rows(database, f"SELECT position FROM {table}") == [(4,)]


async def test_postgresql_notes_the_transaction_that_wrote_an_operation(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.prepare()
    async with database.engines().writing.begin() as connection:
        current = await connection.scalar(text("SELECT pg_current_xact_id()::text"))
        insertion = "INSERT INTO fusion_operations (operation_id, host, committed_at, keys) VALUES ('1', 'h', 0, '')"
        await connection.execute(text(insertion))
    assert await rows(database, "SELECT transaction_id::text FROM fusion_operations") == [(current,)]
    await database.dispose()


async def test_the_newest_revision_is_the_one_head_and_there_is_no_way_back() -> None:
    scripts = ScriptDirectory(revisions.FOLDER)
    assert scripts.get_heads() == [NEWEST]
    found = list(scripts.walk_revisions())
    assert [script.revision for script in found] == [f"{number:04}" for number in range(len(found), 0, -1)]
    assert not [script.revision for script in found if hasattr(script.module, "downgrade")]


@pytest.mark.parametrize("path", sorted(VERSIONS.glob("revision_*.py")), ids=lambda path: path.name)
def test_a_revision_stands_for_itself(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    # Alembic's `op` is one for the process, and the app may be using it.
    assert imported <= {"__future__", "sqlalchemy", "alembic.operations"}


class Next:
    """A revision after the newest one, in a copy of the folder: its statements stand in `upgrade`."""

    revision = "9998"

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
        shutil.copytree(VERSIONS, folder / "versions")
        lines = [f"    op.execute({statement!r})" for statement in statements]
        head = f"revision = {self.revision!r}\ndown_revision = {NEWEST!r}\n\n\ndef upgrade(op):\n"
        (folder / "versions" / "next.py").write_text(head + "\n".join(lines) + "\n")
        monkeypatch.setattr(revisions, "FOLDER", folder)
        monkeypatch.setattr(upgrading, "NEWEST", self.revision)


async def test_a_later_revision_takes_its_step_alone_and_keeps_the_rows(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.prepare()
    await run(database, "UPDATE fusion_trimmed SET position = 7")
    Next(tmp_path, monkeypatch, "ALTER TABLE fusion_trimmed ADD COLUMN more INTEGER")
    assert await upgrade(database.engines().writing) == Upgrade(NEWEST, Next.revision)
    assert await upgrade(database.engines().writing) == Upgrade(Next.revision, Next.revision)
    assert await rows(database, "SELECT position, more FROM fusion_trimmed") == [(7, None)]
    assert await rows(database, f"SELECT version_num FROM {VERSION_TABLE}") == [(Next.revision,)]


FORMER_COLUMNS = (
    "position, event_id, type, key, slot, payload, emitted_at, first_due_at, due_at, attempts, state, remaining, "
    "error, claimed_by, claimed_until"
)


async def test_members_of_the_former_version_read_and_write_beside_the_new_one(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They name the columns of revision 0001, on connections that they had before the upgrade."""
    monkeypatch.setattr(upgrading, "NEWEST", "0001")
    assert await upgrade(database.engines().writing) == Upgrade(None, "0001")
    monkeypatch.undo()
    reading = text(f"SELECT {FORMER_COLUMNS} FROM fusion_events ORDER BY position")
    claiming = text(f"UPDATE fusion_events SET claimed_by = 'former' WHERE slot < 0 RETURNING {FORMER_COLUMNS}")
    writing = text(
        "INSERT INTO fusion_events (event_id, type, key, slot, payload, emitted_at, first_due_at, due_at, attempts, "
        "state) VALUES (:id, 'Happened', :nothing, 0, :nothing, 0, 0, 0, 0, 'waiting')"
    )
    other = Database(database_url)
    async with database.engines().writing.connect() as former:
        await former.execute(writing, {"id": "1", "nothing": b""})
        assert len((await former.execute(reading)).all()) == 1
        assert (await former.execute(claiming)).all() == []
        await former.commit()
        assert await upgrade(other.engines().writing) == Upgrade("0001", NEWEST)
        await former.execute(writing, {"id": "2", "nothing": b""})
        assert [row.event_id for row in await former.execute(reading)] == ["1", "2"]
        assert (await former.execute(claiming)).all() == []
        await former.commit()
    claims = EventClaims(other, me="new", types=["Happened"], clock=time.time, claim_s=10)
    claimed = await claims.claim(10, owned=None, horizon_s=1, judge=lambda _: pytest.fail("nobody has abandoned it"))
    (first,) = claimed.events
    second = await claims.succeeded(first, wants_next=True)
    assert second is not None
    assert [(event.event_id, event.baggage) for event in (first, second)] == [("1", None), ("2", None)]
    await other.dispose()


async def test_an_empty_database_takes_all_steps(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Next(tmp_path, monkeypatch, "ALTER TABLE fusion_trimmed ADD COLUMN more INTEGER")
    assert await upgrade(database.engines().writing) == Upgrade(None, Next.revision)
    assert await rows(database, "SELECT position, more FROM fusion_trimmed") == [(0, None)]


async def test_a_step_that_fails_undoes_all(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Next(tmp_path, monkeypatch, "CREATE TABLE fusion_more (id INTEGER)", "CREATE TABLE fusion_more (id INTEGER)")
    with pytest.raises(DBAPIError, match="already exists"):
        await upgrade(database.engines().writing)
    assert await tables(database) == set()
    monkeypatch.undo()
    assert await upgrade(database.engines().writing) == Upgrade(None, NEWEST)


async def test_tables_newer_than_the_library_are_refused_and_left_alone(database: Database, database_url: str) -> None:
    await database.prepare()
    await run(database, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    other = Database(database_url)
    for attempt in (other.prepare, lambda: upgrade(other.engines().writing)):
        with pytest.raises(UsageError, match=rf"revision 9999, .* up to revision {NEWEST}: upgrade"):
            await attempt()
    assert await find_revision(database.engines().reading) == "9999"
    await other.dispose()


async def test_the_tables_of_the_app_are_left_alone_its_alembic_version_too(database: Database) -> None:
    app = MetaData()
    Table("products", app, Column("id", Integer, primary_key=True), Column("name", String))
    Table("fusions", app, Column("id", Integer, primary_key=True))
    await database.create_tables(app)
    await run(
        database,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('of the app')",
        "INSERT INTO products VALUES (1, 'tea')",
    )
    await database.prepare()
    assert await rows(database, "SELECT version_num FROM alembic_version") == [("of the app",)]
    assert await rows(database, "SELECT id, name FROM products") == [(1, "tea")]
    ours = {*schema.METADATA.tables, VERSION_TABLE}
    assert await tables(database) - ours == {"products", "fusions", "alembic_version"}


async def test_an_app_with_alembic_of_its_own_leaves_the_library_s_tables_out_by_their_names(
    database: Database,
) -> None:
    app = MetaData()
    Table("products", app, Column("id", Integer, primary_key=True))
    await database.create_tables(app)
    await database.prepare()
    seen = await ask(database, lambda connection: differences(connection, app))
    assert ("remove_table", "fusion_operations") in {(kind, getattr(item, "name", "")) for kind, item, *_ in seen}
    assert await ask(database, lambda connection: differences(connection, app, include_name=documented_filter())) == []


async def test_nothing_is_configured_that_belongs_to_the_process(database: Database) -> None:
    from alembic import op

    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    await database.prepare()
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == (handlers, level)
    assert all(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("alembic").handlers)
    with pytest.raises(NameError, match="proxy object has not yet been established"):
        op.get_context()


async def test_a_server_whose_transactions_see_one_snapshot_is_upgraded_by_many_at_once(postgres_url: str) -> None:
    first = Database(postgres_url)
    name = (await rows(first, "SELECT current_database()"))[0][0]
    await run(first, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    await first.dispose()
    databases = [Database(postgres_url) for _ in range(6)]
    assert await rows(databases[0], "SHOW default_transaction_isolation") == [("serializable",)]
    done = await asyncio.gather(*(upgrade(database.engines().writing) for database in databases))
    assert sorted(done, key=lambda one: one.before or "")[0] == Upgrade(None, NEWEST)
    assert done.count(Upgrade(NEWEST, NEWEST)) == 5
    await asyncio.gather(*(database.dispose() for database in databases))


async def test_other_databases_are_refused() -> None:
    engine = SimpleNamespace(
        dialect=SimpleNamespace(name="mysql"), url=SimpleNamespace(render_as_string=lambda: "mysql+aiomysql://shop")
    )
    with pytest.raises(UsageError, match="neither PostgreSQL nor SQLite"):
        await upgrade(cast(AsyncEngine, engine))
