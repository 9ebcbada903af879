"""B.4 and B.5: readers of the operation log give every committed entry once, however late, or say what they missed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from fusion_cluster import Database, LogOptions
from fusion_cluster.database import log_readers
from fusion_cluster.database.log_readers import LogEntry, LogReader, new_reader
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.errors import UsageError
from tests.log_entries import begin, committed, write_entry, writing

pytest_plugins = ["tests.databases"]

OLD_S = 7_200.0
"""Older than entries are kept."""


@pytest.fixture
async def reader(database: Database) -> LogReader:
    await database.prepare()
    return await started(database)


async def started(database: Database) -> LogReader:
    reader = new_reader(database.engines)
    await reader.start()
    return reader


def ids(entries: Sequence[LogEntry] | None) -> list[str]:
    assert entries is not None
    return [entry.operation_id for entry in entries]


async def trim(database: Database) -> int:
    return await LogTrimmer(database).trim()


def is_postgresql(database: Database) -> bool:
    return database.url.startswith("postgresql")


# -- each entry once ---------------------------------------------------------------------------------------------------
async def test_entries_are_given_once_each_in_the_order_in_which_they_were_written(
    database: Database, reader: LogReader
) -> None:
    assert ids(await reader.read()) == []
    await committed(database, "a", "b")
    assert ids(await reader.read()) == ["a", "b"]
    assert ids(await reader.read()) == []
    await committed(database, "c")
    assert ids(await reader.read()) == ["c"]


async def test_an_entry_is_given_as_it_was_written(database: Database, reader: LogReader) -> None:
    keys = (("Shelves.amount", b"\x91\x01", "for a test"), ("Shelves.total", b"\x92\x01\x02", ""))
    async with writing(database) as writer:
        await write_entry(writer.session, "a", keys=keys)
    assert await reader.read() == [LogEntry("a", "test", keys)]


async def test_a_reader_begins_with_what_is_committed_after_its_start(database: Database, reader: LogReader) -> None:
    await committed(database, "before")
    later = await started(database)
    await committed(database, "after")
    assert ids(await later.read()) == ["after"]
    assert ids(await reader.read()) == ["before", "after"]


async def test_several_readers_do_not_take_entries_from_each_other(database: Database, reader: LogReader) -> None:
    other = await started(database)
    await committed(database, "a")
    assert ids(await reader.read()) == ["a"]
    await committed(database, "b")
    assert ids(await other.read()) == ["a", "b"]
    assert ids(await reader.read()) == ["b"]


async def test_what_is_rolled_back_is_never_given(database: Database, reader: LogReader) -> None:
    writer = await begin(database)
    await writer.write("a")
    assert ids(await reader.read()) == []
    await writer.roll_back()
    assert ids(await reader.read()) == []
    await committed(database, "b")
    assert ids(await reader.read()) == ["b"]


async def test_an_entry_whose_result_is_recorded_later_is_not_given_again(
    database: Database, reader: LogReader
) -> None:
    await committed(database, "a")
    assert ids(await reader.read()) == ["a"]
    await database.log.record_outcome("a", b"v\x01")
    assert ids(await reader.read()) == []


async def test_an_entry_that_was_written_behind_a_savepoint_is_given_unless_that_was_rolled_back(
    database: Database, reader: LogReader
) -> None:
    async with writing(database) as writer:
        async with writer.session.begin_nested():
            await writer.write("a")
        savepoint = writer.session.begin_nested()
        await savepoint.start()
        await writer.write("b")
        await savepoint.rollback()
        async with writer.session.begin_nested(), writer.session.begin_nested():
            await writer.write("c")
    assert ids(await reader.read()) == ["a", "c"]


async def test_a_reader_that_could_not_read_gives_the_entries_when_it_can(
    database: Database, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await committed(database, "a")

    async def fail(*_: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(log_readers, "_rows", fail)
        with pytest.raises(ConnectionError):
            await reader.read()
    await committed(database, "b")
    assert ids(await reader.read()) == ["a", "b"]


# -- behind (B.5) ------------------------------------------------------------------------------------------------------
async def test_a_reader_that_is_behind_the_trim_says_so_once_and_goes_on(database: Database, reader: LogReader) -> None:
    ahead = await started(database)
    await committed(database, "a", "b", age_s=OLD_S)
    await committed(database, "c")
    assert ids(await ahead.read()) == ["a", "b", "c"]
    assert await trim(database) == 2
    assert await reader.read() is None
    assert ids(await reader.read()) == []
    await committed(database, "d")
    assert ids(await reader.read()) == ["d"]
    assert ids(await ahead.read()) == ["d"], "one that has read all is not behind"


async def test_a_reader_that_starts_after_the_trim_is_not_behind(database: Database, reader: LogReader) -> None:
    await committed(database, "a", age_s=OLD_S)
    assert await trim(database) == 1
    later = await started(database)
    assert ids(await later.read()) == []
    await committed(database, "b")
    assert ids(await later.read()) == ["b"]


async def test_trimming_what_a_reader_has_read_long_ago_does_not_put_it_behind(
    database: Database, reader: LogReader
) -> None:
    for number in range(5):
        await committed(database, f"{number}", age_s=OLD_S)
        assert ids(await reader.read()) == [f"{number}"]
        assert await trim(database) == 1
        assert ids(await reader.read()) == []


async def test_a_reader_that_finds_too_many_entries_says_so_and_goes_on(
    database: Database, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_readers, "MAX_ENTRIES", 10)
    await committed(database, *map(str, range(10)))
    assert len(ids(await reader.read())) == 10
    await committed(database, *map(str, range(10, 21)))
    assert await reader.read() is None
    await committed(database, "last")
    assert ids(await reader.read()) == ["last"]


async def test_a_reader_that_finds_an_entry_that_it_cannot_understand_says_that_it_has_missed_some(
    database: Database, reader: LogReader, caplog: pytest.LogCaptureFixture
) -> None:
    await committed(database, "a", "b")
    async with writing(database) as writer:
        garbage = r"'\xff'::bytea" if is_postgresql(database) else "x'ff'"
        await writer.session.execute(text(f"UPDATE fusion_operations SET keys = {garbage}".replace("::", r"\:\:")))
    assert await reader.read() is None
    assert "cannot be understood" in caplog.text
    await committed(database, "c")
    assert ids(await reader.read()) == ["c"]


async def test_a_log_that_has_gone_back_in_time_is_noticed(database: Database, reader: LogReader) -> None:
    """A backup was restored, or a standby has taken over that lacked the last commits."""
    await committed(database, "a", "b")
    async with writing(database) as writer:
        if is_postgresql(database):
            reader._snapshot = "900000000:900000000:"  # type: ignore[attr-defined]
        else:
            for statement in ("DELETE FROM fusion_operations", "UPDATE sqlite_sequence SET seq = 1"):
                await writer.session.execute(text(statement))
            reader._position = 2  # type: ignore[attr-defined]
    assert await reader.read() is None
    await committed(database, "c")
    assert ids(await reader.read()) == ["c"]


def test_there_is_no_log_on_other_databases() -> None:
    class Engines:
        class reading:  # noqa: N801
            class dialect:  # noqa: N801
                name = "mysql"

    with pytest.raises(UsageError, match="mysql"):
        new_reader(Engines)  # type: ignore[arg-type]


def test_entries_are_kept_for_longer_than_a_command_takes() -> None:
    assert LogOptions().retention_s > 600
