"""What wakes the followers of the operation log: for speed alone, so whatever fails of it costs a period at most."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from sqlalchemy import text

from fusion_cluster import Database
from fusion_cluster.database.log_wakes import CHANNEL, PostgreSQLWake, SQLiteWake, new_wake
from tests.log_entries import committed
from tests.statements import statements
from tests.waiting import until

pytest_plugins = ["tests.databases"]

LONG_S = 60.0


async def seconds(waiting: Awaitable[None]) -> float:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await asyncio.wait_for(waiting, 10)
    return loop.time() - begun_s


# -- SQLite ------------------------------------------------------------------------------------------------------------
@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    await database.prepare()
    yield database
    await database.dispose()


async def test_a_commit_changes_the_file_that_is_looked_at(sqlite: Database) -> None:
    wake = new_wake(sqlite.engines)
    assert isinstance(wake, SQLiteWake)
    for number in range(3):
        await committed(sqlite, f"{number}")
        await asyncio.wait_for(wake.wait(LONG_S), 10)
    waiting = asyncio.create_task(wake.wait(LONG_S))
    await asyncio.sleep(0)
    assert not waiting.done()
    await committed(sqlite, "last")
    await asyncio.wait_for(waiting, 10)


async def test_a_commit_of_another_process_changes_it_too(sqlite: Database, tmp_path: Path) -> None:
    wake = new_wake(sqlite.engines)
    waiting = asyncio.create_task(wake.wait(LONG_S))
    other = Database(f"sqlite:///{tmp_path}/shelves.db")
    await committed(other, "a")
    await asyncio.wait_for(waiting, 10)
    await other.dispose()


async def test_without_the_file_the_period_is_waited_for(tmp_path: Path) -> None:
    wake = SQLiteWake(f"{tmp_path}/none-wal")
    assert 0.04 < await seconds(wake.wait(0.05)) < 5
    wake.wake()
    assert await seconds(wake.wait(LONG_S)) < 5
    await wake.close()


# -- PostgreSQL --------------------------------------------------------------------------------------------------------
@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    yield database
    await database.dispose()


class Follower:
    """Waits again and again.

    Attributes:
        wake: what wakes it.
        count: how often it was woken.
    """

    def __init__(self, database: Database) -> None:
        self.wake = PostgreSQLWake(database.engines)
        self.count = 0
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await self.wake.wait(LONG_S)
            self.count += 1

    async def woken(self, what: str = "the wake") -> None:
        """Wait until it is woken, and no longer."""
        count = self.count
        await until(lambda: self.count > count, what=what)

    async def is_heard(self) -> None:
        """Wait until it listens."""
        await until(lambda: self.wake._driver is not None and not self.wake._driver.is_closed(), what="listening")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.wake.close()


@pytest.fixture
async def followers(postgresql: Database) -> AsyncIterator[list[Follower]]:
    """Three, who listen, and who were told that they were deaf before."""
    followers = [Follower(postgresql) for _ in range(3)]
    await until(lambda: all(follower.count for follower in followers))
    yield followers
    for follower in followers:
        await follower.close()


async def terminate_listeners(database: Database) -> None:
    async with database.session() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND (query ILIKE '%LISTEN%' OR query LIKE 'NOTIFY%')"
            )
        )


async def test_others_are_woken_and_not_the_one_who_notifies(followers: list[Follower]) -> None:
    first, *others = followers
    counts = [follower.count for follower in followers]
    first.wake.notify()
    await until(lambda: all(other.count > count for other, count in zip(others, counts[1:], strict=True)))
    assert first.count == counts[0]


async def test_many_commits_of_a_turn_of_the_loop_are_one_notification(followers: list[Follower]) -> None:
    first, other, _ = followers
    sent: list[str] = []
    execute = first.wake._driver.execute

    class Counting:
        async def execute(self, statement: str, **options: object) -> None:
            sent.append(statement)
            await execute(statement, **options)

        def is_closed(self) -> bool:
            return False

    first.wake._driver = Counting()
    for _ in range(100):
        first.wake.notify()
    await other.woken()
    await until(lambda: first.wake._notifying is None)
    assert sent == [f"NOTIFY {CHANNEL}"]


async def test_nothing_is_notified_within_the_transaction_of_a_commit(postgresql: Database) -> None:
    """The commits of all processes would queue for one lock."""
    await postgresql.prepare()
    with statements() as sent:
        await committed(postgresql, "a")
    assert not any("NOTIFY" in statement.text.upper() for statement in sent)


async def test_a_lost_connection_is_opened_anew_and_said_to_have_been_deaf(
    postgresql: Database, followers: list[Follower]
) -> None:
    counts = [follower.count for follower in followers]
    await terminate_listeners(postgresql)
    await until(lambda: all(follower.count > count for follower, count in zip(followers, counts, strict=True)))
    for follower in followers:
        await follower.is_heard()
    first, other, _ = followers
    first.wake.notify()
    await other.woken()


async def test_what_is_notified_before_there_is_a_connection_is_notified_when_there_is_one(
    postgresql: Database, followers: list[Follower]
) -> None:
    early = PostgreSQLWake(postgresql.engines)
    early.notify()
    listening = asyncio.create_task(early.wait(LONG_S))
    await followers[0].woken()
    await listening
    await early.close()


async def test_a_connection_that_cannot_be_had_costs_the_period_and_one_warning(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    missing = Database(postgres_url.replace("/test_", "/no_test_"))
    wake = PostgreSQLWake(missing.engines)
    for _ in range(3):
        assert await seconds(wake.wait(0.01)) < 5
    assert len([record for record in caplog.records if "without being notified" in record.message]) == 1
    await wake.close()
    await missing.dispose()


async def test_a_driver_that_fails_while_it_begins_to_listen_ends_nothing(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncpg = importlib.import_module("asyncpg")  # which has no types

    async def fail(*_: object) -> None:
        raise asyncpg.InterfaceError("connection is closed")

    wake = PostgreSQLWake(postgresql.engines)
    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.Connection, "add_listener", fail)
        await wake.wait(0.01)
    await asyncio.wait_for(wake.wait(LONG_S), 10)
    await wake.close()


async def test_a_notification_that_fails_is_followed_by_another_connection(followers: list[Follower]) -> None:
    class Broken:
        async def execute(self, statement: str, **options: object) -> None:
            raise ConnectionResetError("gone")

        def is_closed(self) -> bool:
            return False

    first, other, _ = followers
    first.wake._driver = Broken()
    first.wake.notify()
    await first.woken("the one whose notification has failed")
    await first.is_heard()
    first.wake.notify()
    await other.woken()
