"""`Database.prepare`: the tables are there when it returns, whoever asks, and it costs nothing afterwards."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.util import await_only

from fusion_cluster import Database, UsageError
from fusion_cluster.database import preparation
from fusion_cluster.database.migrations import NEWEST, VERSION_TABLE, Upgrade, find_revision, upgrade, upgrading
from fusion_cluster.errors import DatabaseUnavailable
from tests.statements import statements
from tests.waiting import until

pytestmark = pytest.mark.empty_database

pytest_plugins = ["tests.databases"]


async def set_revision(database: Database, revision: str) -> None:
    async with database.engines().writing.begin() as connection:
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"), {"revision": revision})


async def test_the_first_call_makes_the_tables_and_the_next_asks_nothing(database: Database) -> None:
    assert await find_revision(database.engines().reading) is None
    await database.prepare()
    assert await find_revision(database.engines().reading) == NEWEST
    with statements() as sent:
        await database.prepare()
    assert sent == []


async def test_where_the_tables_are_of_the_newest_revision_it_is_one_select(
    database: Database, database_url: str
) -> None:
    await database.prepare()
    other = Database(database_url)
    with statements() as sent:
        await other.prepare()
    assert [statement.text.split()[0] for statement in sent] == ["SELECT"]
    await other.dispose()


async def test_it_waits_for_no_writer_where_there_is_nothing_to_do(database: Database, database_url: str) -> None:
    await database.prepare()
    other = Database(database_url, busy_timeout_s=0.01)
    async with database.engines().writing.begin() as connection:
        await connection.execute(text("UPDATE fusion_trimmed SET position = 1"))
        await other.prepare()
    await other.dispose()


async def test_callers_at_the_same_time_share_one_upgrade(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrades = counted_upgrades(monkeypatch)
    await asyncio.gather(*(database.prepare() for _ in range(20)))
    assert upgrades == [Upgrade(None, NEWEST)]


async def test_tables_that_another_process_makes_between_two_looks_are_found(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = upgrading._has_version_table

    def look_later(connection: Connection) -> bool:
        await_only(upgrade(database.engines().writing))
        return look(connection)

    monkeypatch.setattr(upgrading, "_has_version_table", look_later)
    assert await find_revision(database.engines().reading) == NEWEST


async def test_many_databases_of_one_url_and_many_event_loops_make_one_schema(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrades = counted_upgrades(monkeypatch)
    failures: list[BaseException] = []

    async def prepare() -> None:
        own = [Database(database_url) for _ in range(3)]
        await asyncio.gather(*(one.prepare() for one in own))
        await asyncio.gather(*(one.dispose() for one in own))

    def run() -> None:
        try:
            asyncio.run(prepare())
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
    assert [done for done in upgrades if done.before is None] == [Upgrade(None, NEWEST)]
    assert await find_revision(database.engines().reading) == NEWEST


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered(database: Database, database_url: str) -> None:
    await database.prepare()
    await set_revision(database, "9999")
    other = Database(database_url)
    outcomes = await asyncio.gather(*(other.prepare() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UsageError] * 3
    with pytest.raises(UsageError):
        await other.prepare()
    await set_revision(database, NEWEST)
    await other.prepare()
    await other.dispose()


async def test_who_is_cancelled_leaves_and_the_upgrade_goes_on_for_the_others(database: Database) -> None:
    first, second = (asyncio.create_task(database.prepare()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert await find_revision(database.engines().reading) == NEWEST


async def test_nobody_has_to_wait_for_an_upgrade_and_closing_does(database: Database) -> None:
    only = asyncio.create_task(database.prepare())
    await asyncio.sleep(0)
    only.cancel()
    await database.dispose()
    assert only.cancelled()
    assert await find_revision(database.engines().reading) == NEWEST


async def test_it_is_no_part_of_what_the_caller_is_doing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="")
    seen: list[str] = []

    async def look(engine: Any) -> Upgrade:
        seen.append(variable.get())
        return await upgrade(engine)

    monkeypatch.setattr(preparation, "upgrade", look)
    context = copy_context()
    context.run(variable.set, "of the caller")
    await asyncio.get_running_loop().create_task(database.prepare(), context=context)
    assert seen == [""]


async def test_after_dispose_it_looks_again(database: Database) -> None:
    await database.prepare()
    await database.dispose()
    with statements() as sent:
        await database.prepare()
    assert len(sent) == 1


async def test_a_server_that_is_not_there_is_a_transient_error() -> None:
    database = Database("postgresql://nobody:secret@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable) as failure:
        await database.prepare()
    assert failure.value.is_transient
    assert "secret" not in str(failure.value)
    await database.dispose()


async def test_a_folder_that_is_not_there_is_told_by_sqlite() -> None:
    threads = set(threading.enumerate())
    database = Database("sqlite:////nowhere/shop.db")
    with pytest.raises(UsageError, match="there is no folder /nowhere"):
        await database.prepare()
    await database.dispose()
    # The driver's thread still has to say so to the loop.
    await until(lambda: set(threading.enumerate()) <= threads, what="the end of the driver's threads")


def counted_upgrades(monkeypatch: pytest.MonkeyPatch) -> list[Upgrade]:
    upgrades: list[Upgrade] = []

    async def counted(engine: Any) -> Upgrade:
        upgrades.append(await upgrade(engine))
        return upgrades[-1]

    monkeypatch.setattr(preparation, "upgrade", counted)
    return upgrades
