"""B.13: the operation log is trimmed; the ids of commands stay known for longer, and are forgotten in the end."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import insert, text

from fusion_cluster import Database, LogOptions
from fusion_cluster.commands.outcomes import NONE_OUTCOME
from fusion_cluster.database import log_trimmer
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.database.schema import COMMANDS
from tests.apps.shelves import shelves_host
from tests.log_entries import committed, logged, write_entry, writing
from tests.waiting import until

pytest_plugins = ["tests.databases"]

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@pytest.fixture
async def database(database: Database) -> Database:
    await database.prepare()
    return database


async def write_command(database: Database, command_id: str, age_s: float, outcome: bytes | None = b"v\x01") -> None:
    async with writing(database) as writer:
        await write_entry(writer.session, command_id, age_s=age_s, fingerprint=b"print", outcome=outcome)


async def commands(database: Database) -> list[object]:
    return await logged(database, "command_id", "fusion_commands")


async def test_old_entries_go_and_young_ones_stay(database: Database) -> None:
    await committed(database, "old 1", "old 2", age_s=1.1 * HOUR_S)
    await committed(database, "young", age_s=0.9 * HOUR_S)
    assert await LogTrimmer(database).trim() == 2
    assert await logged(database) == ["young"]
    assert await LogTrimmer(database).trim() == 0


async def test_a_trimmed_command_stays_known_with_its_outcome(database: Database) -> None:
    await write_command(database, "a", 2 * HOUR_S)
    await write_command(database, "b", 2 * HOUR_S, outcome=None)
    await committed(database, "of a script", age_s=2 * HOUR_S)
    before = await database.log.find("a")
    assert await LogTrimmer(database).trim() == 3
    assert await commands(database) == ["a", "b"]
    after = await database.log.find("a")
    assert before is not None and after is not None  # noqa: PT018
    assert (after.fingerprint, after.outcome, after.committed_at) == (b"print", b"v\x01", before.committed_at)
    assert await database.log.find("of a script") is None


async def test_an_outcome_that_is_recorded_after_the_trim_is_recorded(database: Database) -> None:
    await write_command(database, "a", 2 * HOUR_S, outcome=None)
    await LogTrimmer(database).trim()
    await database.log.record_outcome("a", NONE_OUTCOME)
    found = await database.log.find("a")
    assert found is not None
    assert found.outcome == NONE_OUTCOME


async def test_a_command_is_forgotten_after_its_own_retention(database: Database) -> None:
    await write_command(database, "a", 6.9 * DAY_S)
    await write_command(database, "b", 7.1 * DAY_S)
    await LogTrimmer(database).trim()
    await LogTrimmer(database).trim()
    assert await commands(database) == ["a"]
    assert await database.log.find("b") is None


async def test_an_id_that_is_known_already_holds_up_nothing(database: Database) -> None:
    """A run that stood still for longer than entries are kept has committed a second time."""
    await write_command(database, "a", 2 * HOUR_S, outcome=b"first")
    await LogTrimmer(database).trim()
    await write_command(database, "a", 2 * HOUR_S, outcome=b"second")
    await write_command(database, "b", 2 * HOUR_S)
    assert await LogTrimmer(database).trim() == 2
    assert await commands(database) == ["a", "b"]
    found = await database.log.find("a")
    assert found is not None
    assert found.outcome == b"first"


async def test_a_long_log_is_trimmed_batch_by_batch(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_trimmer, "BATCH", 3)
    await committed(database, *map(str, range(8)), age_s=2 * HOUR_S)
    await committed(database, "young")
    assert [await LogTrimmer(database).trim() for _ in range(4)] == [3, 3, 2, 0]
    assert await logged(database) == ["young"]


async def test_several_trimmers_at_once_trim_each_entry_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    await databases[0].prepare()
    for number in range(20):
        await write_command(databases[0], f"{number:02}", 2 * HOUR_S)
    counts = await asyncio.gather(*(LogTrimmer(database).trim() for database in databases for _ in range(3)))
    assert sum(counts) == 20
    assert await logged(databases[0]) == []
    assert await commands(databases[0]) == [f"{number:02}" for number in range(20)]
    await asyncio.gather(*(database.dispose() for database in databases))


async def test_trimming_beside_writers_and_recorders_loses_no_outcome(database_url: str) -> None:
    """An outcome that is recorded while its entry is moved is recorded in one place or the other."""
    writing_one, trimming_one = Database(database_url), Database(database_url)
    await writing_one.prepare()

    async def write(number: int) -> None:
        await write_command(writing_one, f"{number}", 2 * HOUR_S, outcome=None)
        await writing_one.log.record_outcome(f"{number}", b"v\x01")

    async def trim() -> None:
        trimmer = LogTrimmer(trimming_one)
        while True:
            await trimmer.trim()

    trimming = asyncio.create_task(trim())
    await asyncio.gather(*(write(number) for number in range(40)))
    trimming.cancel()
    await asyncio.wait([trimming])
    for number in range(40):
        found = await writing_one.log.find(f"{number}")
        assert found is not None
        assert found.outcome == b"v\x01"
    await asyncio.gather(writing_one.dispose(), trimming_one.dispose())


async def test_hosts_trim_by_themselves(database_url: str) -> None:
    async with shelves_host(database_url, log=LogOptions(trim_period_s=0.02)) as host:
        database = host.app.database
        assert database is not None
        await write_command(database, "a", 2 * HOUR_S)
        await until_trimmed(database)
        assert await commands(database) == ["a"]


async def until_trimmed(database: Database) -> None:
    async with asyncio.timeout(10):
        while await logged(database):
            pass


async def test_a_trim_that_fails_is_made_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with shelves_host(database_url, log=LogOptions(trim_period_s=0.02)) as host:
        database = host.app.database
        assert database is not None
        await write_command(database, "a", 2 * HOUR_S)
        failures = 0

        async def fail(self: LogTrimmer, connection: object) -> int:
            nonlocal failures
            failures += 1
            raise ConnectionError("away")

        with monkeypatch.context() as patch:
            patch.setattr(LogTrimmer, "_trim", fail)
            await until(lambda: failures > 1)
        await until_trimmed(database)
    assert "could not be trimmed: away" in caplog.text


async def test_trimming_forgets_commands_in_a_log_that_has_nothing_to_trim(database: Database) -> None:
    async with writing(database) as writer:
        row = {"command_id": "a", "command": "Shelves.put", "committed_at": time.time() - 8 * DAY_S}
        await writer.session.execute(insert(COMMANDS), row)
    assert await LogTrimmer(database).trim() == 0
    assert await commands(database) == []
    async with database.session() as session:
        assert await session.scalar(text("SELECT position FROM fusion_trimmed")) == 0
