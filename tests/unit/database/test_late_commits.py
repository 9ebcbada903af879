"""B.4: on PostgreSQL transactions commit in another order than they write; no reader loses an entry by that."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import text

from fusion_cluster import Database
from fusion_cluster.database.log_readers import LogEntry, PostgreSQLLogReader
from fusion_cluster.database.log_trimmer import LogTrimmer
from tests.log_entries import begin, committed, logged, writing

pytest_plugins = ["tests.postgres"]

OLD_S = 7_200.0


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.prepare()
    yield database
    await database.dispose()


@pytest.fixture
async def reader(database: Database) -> PostgreSQLLogReader:
    reader = PostgreSQLLogReader(database.engines)
    await reader.start()
    return reader


def ids(entries: Sequence[LogEntry] | None) -> list[str]:
    assert entries is not None
    return [entry.operation_id for entry in entries]


async def test_an_entry_that_was_written_earlier_and_commits_later_is_given_when_it_appears(
    database: Database, reader: PostgreSQLLogReader
) -> None:
    late = await begin(database)
    await late.write("late")
    await committed(database, "a", "b")
    assert ids(await reader.read()) == ["a", "b"]
    await committed(database, "c")
    assert ids(await reader.read()) == ["c"]
    await late.commit()
    assert ids(await reader.read()) == ["late"]
    assert ids(await reader.read()) == []


async def test_a_transaction_that_began_before_the_reader_is_given_when_it_commits(database: Database) -> None:
    late = await begin(database)
    await late.write("late")
    reader = PostgreSQLLogReader(database.engines)
    await reader.start()
    assert ids(await reader.read()) == []
    await late.commit()
    assert ids(await reader.read()) == ["late"]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
async def test_several_late_commits_in_any_order_with_a_rollback_among_them(
    database: Database, reader: PostgreSQLLogReader, order: tuple[int, ...]
) -> None:
    writers = [await begin(database) for _ in range(4)]
    for number, writer in enumerate(writers):
        await writer.write(str(number))
    await writers[3].roll_back()
    for number in order:
        await writers[number].commit()
        await committed(database, f"beside {number}")
        assert sorted(ids(await reader.read())) == [str(number), f"beside {number}"]
    assert ids(await reader.read()) == []


async def test_a_reader_needs_not_read_in_between(database: Database, reader: PostgreSQLLogReader) -> None:
    late = await begin(database)
    await late.write("late 1")
    await committed(database, "a")
    assert ids(await reader.read()) == ["a"]
    later = await begin(database)
    await later.write("later")
    await late.write("late 2")
    await late.commit()
    await committed(database, "b")
    await later.commit()
    assert sorted(ids(await reader.read())) == ["b", "late 1", "late 2", "later"]


async def test_a_transaction_that_writes_long_before_its_entry_is_given_when_it_commits(
    database: Database, reader: PostgreSQLLogReader
) -> None:
    """It has its number since it has written first, and that is older than all that is committed meanwhile."""
    late = await begin(database)
    await late.session.execute(text("CREATE TABLE other (id integer)"))
    await committed(database, "a")
    assert ids(await reader.read()) == ["a"]
    await late.write("late")
    assert ids(await reader.read()) == []
    await late.commit()
    assert ids(await reader.read()) == ["late"]


async def test_savepoints_have_no_numbers_of_their_own_in_the_log(
    database: Database, reader: PostgreSQLLogReader
) -> None:
    late = await begin(database)
    async with late.session.begin_nested():
        await late.write("a")
        await committed(database, "beside")
    assert ids(await reader.read()) == ["beside"]
    async with late.session.begin_nested():
        await late.write("b")
    assert ids(await reader.read()) == []
    await late.commit()
    assert ids(await reader.read()) == ["a", "b"]


async def test_many_writers_at_once_and_a_reader_that_never_rests(
    database: Database, reader: PostgreSQLLogReader
) -> None:
    async def write(number: int) -> None:
        for turn in range(10):
            async with writing(database) as writer:
                await writer.write(f"{number}.{turn}")

    running = asyncio.gather(*(write(number) for number in range(7)))
    found: list[str] = []
    while not running.done():
        found += ids(await reader.read())
    await running
    found += ids(await reader.read())
    assert sorted(found) == sorted(f"{number}.{turn}" for number in range(7) for turn in range(10))


# -- a long-running transaction beside ---------------------------------------------------------------------------------
async def test_a_long_transaction_beside_puts_no_reader_behind_again_and_again(
    database: Database, reader: PostgreSQLLogReader
) -> None:
    """Readers remember snapshots that go back as far as that transaction: the log is not trimmed beyond it."""
    trimmer = LogTrimmer(database)
    await committed(database, "old", age_s=OLD_S)
    assert ids(await reader.read()) == ["old"]
    long = await begin(database)
    await long.session.execute(text("CREATE TABLE other (id integer)"))
    for number in range(3):
        await committed(database, str(number), age_s=OLD_S)
        assert ids(await reader.read()) == [str(number)]
        await trimmer.trim()
        assert ids(await reader.read()) == [], "nothing is lost to a reader that has read all"
    assert await logged(database) == ["0", "1", "2"], "what is older than the long transaction is trimmed all the same"
    await long.commit()
    assert ids(await reader.read()) == []
    await trimmer.trim()
    assert await logged(database) == []
    assert ids(await reader.read()) == []


async def test_an_entry_that_is_old_when_it_commits_is_not_trimmed_past_a_reader_in_silence(
    database: Database, reader: PostgreSQLLogReader
) -> None:
    late = await begin(database)
    await late.write("late", age_s=OLD_S)
    await committed(database, "a")
    assert ids(await reader.read()) == ["a"]
    await late.commit()
    assert await LogTrimmer(database).trim() == 1
    assert await reader.read() is None
    await committed(database, "b")
    assert ids(await reader.read()) == ["b"]


# -- another server's numbers ------------------------------------------------------------------------------------------
async def test_entries_restored_from_a_dump_of_a_server_that_had_counted_higher_disturb_nobody(
    database: Database,
) -> None:
    await committed(database, "restored 1", "restored 2", age_s=OLD_S)
    async with writing(database) as writer:
        for statement in (
            "UPDATE fusion_operations SET transaction_id = '4000000000'",
            "UPDATE fusion_trimmed SET transaction_id = 3999999999",
        ):
            await writer.session.execute(text(statement))
    reader = PostgreSQLLogReader(database.engines)
    await reader.start()
    behind = PostgreSQLLogReader(database.engines)
    await behind.start()
    await committed(database, "a", age_s=OLD_S)
    assert ids(await reader.read()) == ["a"]
    assert ids(await reader.read()) == []
    assert await LogTrimmer(database).trim() == 3
    assert ids(await reader.read()) == []
    assert await behind.read() is None, "the trim is told in the numbers of this server"
