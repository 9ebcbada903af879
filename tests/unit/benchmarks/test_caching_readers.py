"""The readers of the `caching` benchmark count what they read, and stop the benchmark when anything is stale."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.caching_rows import ROWS, Content, Rows, fill, make_app
from benchmarks.readers import Pace, Readers
from fusion_cluster import Database

PACE = Pace(reads=5, turn_s=0.0)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/rows.db")
    await fill(database)
    yield database
    await database.dispose()


class Shelf:
    """Rows in memory; the stale one gives what was there before the last change."""

    def __init__(self, *, is_stale: bool) -> None:
        self.changes = dict.fromkeys(range(ROWS), 0)
        self.is_stale = is_stale

    async def read(self, row_id: int) -> Content:
        return Content(row_id, f"row {row_id}", self.changes[row_id] - self.is_stale)

    async def change(self, row_id: int) -> int:
        await asyncio.sleep(0)
        self.changes[row_id] += 1
        return self.changes[row_id]


async def test_reads_and_changes_of_all_rounds_are_counted() -> None:
    shelf = Shelf(is_stale=False)
    readers = Readers(shelf.read, shelf.change, PACE)
    for _ in range(2):
        await readers.run_round(0.05)
    assert readers.changes == sum(shelf.changes.values()) > 0
    assert readers.reads % 5 == 0
    assert readers.reads_per_s == readers.reads / readers.elapsed_s
    assert readers.elapsed_s >= 0.1


async def test_without_a_writer_nothing_changes() -> None:
    readers = Readers(Shelf(is_stale=False).read, None, PACE)
    await readers.run_round(0.05)
    assert readers.changes == 0
    assert readers.reads > 0


async def test_a_writer_that_does_not_see_its_change_stops_the_benchmark() -> None:
    shelf = Shelf(is_stale=True)
    with pytest.raises(AssertionError, match="stale: row"):
        await Readers(shelf.read, shelf.change, PACE).run_round(0.05)


async def test_rows_that_differ_from_the_database_stop_the_benchmark(database: Database) -> None:
    await Readers(Shelf(is_stale=False).read, None, PACE).check(database)
    with pytest.raises(AssertionError, match="stale: read"):
        await Readers(Shelf(is_stale=True).read, None, PACE).check(database)


async def test_a_change_is_seen_by_memoized_and_by_plain_reads(tmp_path: Path) -> None:
    app = make_app(f"sqlite:///{tmp_path}/rows.db")
    assert app.database is not None
    await fill(app.database)
    async with app.local() as host:
        rows = host.service(Rows)
        assert (await rows.get(3)).changes == 0
        assert await rows.change(3) == 1
        assert await rows.get(3) == await rows.read(3) == await rows.read_remotely(3) == Content(3, "row 3", 1)
