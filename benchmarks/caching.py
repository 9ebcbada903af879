"""What memoizing database reads gains: readers of random rows, with and without a writer that keeps changing them.

The same body is read through its compute method and without it: in this process, on SQLite and on PostgreSQL, and
through a gateway in another process. The writer runs commands, which really invalidate what they change and return only
then. Each round proves that nothing is stale: the writer reads each row that it has changed, and at the end every row
that is read equals the database.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.caching_rows import ROWS, Rows, fill, make_app
from benchmarks.discovery import Say
from benchmarks.path import on_path
from benchmarks.postgres_server import postgres_server
from benchmarks.readers import Change, Pace, Read, Readers
from benchmarks.rounds import Rounds
from benchmarks.row import Goal, Row, at_least
from fusion_cluster import Database
from fusion_cluster.client import connect

FULL, QUICK = Rounds(count=3, round_s=1.0), Rounds(count=1, round_s=0.1)
READS = "the same body without memo"
UNCACHED = Pace(reads=1, turn_s=0.0)
CACHED = Pace(reads=200, turn_s=0.001)
CACHED_BESIDE_A_WRITER = Pace(reads=200, turn_s=0.0001)


@dataclass(frozen=True)
class Setting:
    """Where it is measured.

    Attributes:
        name: of the setting.
        database: of the rows, to compare with.
        cached: reads a row.
        uncached: does the same without memo.
        change: changes a row and returns how often that has been done.
        goal: for the ratio of the rates where nobody writes.
        goal_with_a_writer: the same beside a writer.
    """

    name: str
    database: Database
    cached: Read
    uncached: Read
    change: Change
    goal: Goal | None
    goal_with_a_writer: Goal


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure, in this process and through a gateway."""
    rounds = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/rows.db"
        async for row in measure_locally(say, rounds, "local, SQLite", url):
            yield row
        async with postgres_server() as postgres_url:
            if postgres_url is None:
                yield Row("caching", on_path("local, PostgreSQL"), None, "calls/s", "not measured: no server installed")
            else:
                async for row in measure_locally(say, rounds, "local, PostgreSQL", postgres_url):
                    yield row
        async for row in measure_remotely(say, rounds, "through a gateway", url):
            yield row


async def measure_locally(say: Say, rounds: Rounds, name: str, url: str) -> AsyncIterator[Row]:
    """Measure readers and writer in this process."""
    app = make_app(url)
    assert app.database is not None
    await fill(app.database)
    async with app.local(strict=False) as host:
        rows = host.service(Rows)
        setting = Setting(
            name=on_path(name),
            database=app.database,
            cached=rows.get,
            uncached=rows.read,
            change=rows.change,
            goal=at_least(8_000),
            goal_with_a_writer=at_least(2_000),
        )
        async for row in measure(say, rounds, setting):
            yield row


async def measure_remotely(say: Say, rounds: Rounds, name: str, url: str) -> AsyncIterator[Row]:
    """Measure readers and writer outside the process that has the rows."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(server(url))
        client = await stack.enter_async_context(connect(address))
        rows = client.service(Rows)
        database = Database(url)
        stack.push_async_callback(database.dispose)
        setting = Setting(
            name=on_path(name),
            database=database,
            cached=rows.get,
            uncached=rows.read_remotely,
            change=rows.change,
            goal=None,
            goal_with_a_writer=at_least(10),
        )
        async for row in measure(say, rounds, setting):
            yield row


async def measure(say: Say, rounds: Rounds, setting: Setting) -> AsyncIterator[Row]:
    """Measure with and without memo, in turns, first without a writer, then with one."""
    name = setting.name
    for writer, change in (("no writer", None), ("a writer", setting.change)):
        say(f"{name}, {writer}")
        memoized = Readers(setting.cached, change, CACHED_BESIDE_A_WRITER if change else CACHED)
        plain = Readers(setting.uncached, change, UNCACHED)
        for row_id in range(ROWS):
            await setting.cached(row_id)
        for _ in range(rounds.count):
            await plain.run_round(rounds.round_s)
            await memoized.run_round(rounds.round_s)
            await memoized.check(setting.database)
        goal = setting.goal_with_a_writer if change else setting.goal
        yield Row("caching", f"{name}, {writer}", memoized.reads_per_s, "calls/s", READS, plain.reads_per_s, goal)
        if change:
            yield Row(
                *("caching", f"{name}, the writer's commands meanwhile", memoized.changes_per_s, "commands/s"),
                *("beside readers without memo", plain.changes_per_s),
            )


@asynccontextmanager
async def server(url: str) -> AsyncIterator[str]:
    """Shards and a gateway in another process; gives the address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.caching_server", url), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()
