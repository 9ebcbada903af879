"""What memoizing database reads gains: readers of random rows, with and without a writer that keeps changing them.

The same body is read through its compute method and without it, in this process and through a gateway in another one.
The writer runs commands, which really invalidate what they change and return only then. Each round proves that nothing
is stale: the writer reads each row that it has changed, and at the end every row that is read equals the database.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.caching_rows import ROWS, Content, Rows, fill, make_app, stored
from benchmarks.discovery import Say
from benchmarks.row import Goal, Row, at_least
from fusion_cluster import Database
from fusion_cluster.client import connect

READERS = 10
READS_PER_TURN = 250
"""Reads of one reader before it lets the others, and the writer, go on."""
PAUSE_S = 0.003
"""How long a reader rests after its turn. Readers that never rest would keep the interpreter from the database's
thread: the writer would hardly write, and the cached rate would be that of rows that nobody changes."""
ROUNDS = 3
ROUND_S = 1.0

Read = Callable[[int], Awaitable[Content]]
Change = Callable[[int], Awaitable[int]]


@dataclass
class Case:
    """Readers with or without a writer, and what came of it.

    Attributes:
        read: reads one row.
        change: changes one row and returns how often that has been done; None where nobody writes.
        reads: in all rounds.
        changes: in all rounds.
        elapsed_s: in all rounds.
    """

    read: Read
    change: Change | None
    reads: int = 0
    changes: int = 0
    elapsed_s: float = 0.0

    @property
    def reads_per_s(self) -> float:
        """The rate over all rounds."""
        return self.reads / self.elapsed_s

    @property
    def changes_per_s(self) -> float:
        """The rate over all rounds."""
        return self.changes / self.elapsed_s

    async def run_round(self) -> None:
        """Let readers and writer run for a while; count."""
        deadline_s = time.perf_counter() + ROUND_S
        begin_s = time.perf_counter()
        writing = asyncio.create_task(self._write(deadline_s))
        reads = await asyncio.gather(*(self._read(seed, deadline_s) for seed in range(READERS)))
        self.elapsed_s += time.perf_counter() - begin_s
        self.reads += sum(reads)
        self.changes += await writing

    async def _read(self, seed: int, deadline_s: float) -> int:
        """Read random rows; return how many."""
        read, numbers = self.read, random.Random(seed).choices(range(ROWS), k=20_000)
        turns = itertools.cycle([numbers[n : n + READS_PER_TURN] for n in range(0, len(numbers), READS_PER_TURN)])
        reads = 0
        while time.perf_counter() < deadline_s:
            for row_id in next(turns):
                await read(row_id)
            reads += READS_PER_TURN
            await asyncio.sleep(PAUSE_S)
        return reads

    async def _write(self, deadline_s: float) -> int:
        """Change random rows one after the other, and see that each change is seen; return how many."""
        rows, changes = random.Random("writer"), 0
        while self.change is not None and time.perf_counter() < deadline_s:
            row_id = rows.randrange(ROWS)
            expected = await self.change(row_id)
            seen = await self.read(row_id)
            if seen.changes < expected:
                raise AssertionError(f"stale: row {row_id} read as of change {seen.changes}, after change {expected}")
            changes += 1
        return changes

    async def check(self, database: Database) -> None:
        """Compare every row that is read with the database.

        Raises:
            AssertionError: one differs.
        """
        for row_id, content in (await stored(database)).items():
            seen = await self.read(row_id)
            if seen != content:
                raise AssertionError(f"stale: read {seen}, stored is {content}")


async def run(say: Say) -> AsyncIterator[Row]:
    """Measure, in this process and through a gateway."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/rows.db"
        app = make_app(url)
        assert app.database is not None
        await fill(app.database)
        async with app.local() as host:
            rows = host.service(Rows)
            async for row in measure(say, "local", app.database, rows.get, rows.read, rows.change, at_least(300)):
                yield row
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(server(url))
            client = await stack.enter_async_context(connect(address))
            rows = client.service(Rows)
            database = Database(url)
            stack.push_async_callback(database.dispose)
            async for row in measure(
                say, "through a gateway", database, rows.get, rows.read_remotely, rows.change, at_least(10)
            ):
                yield row


async def measure(
    say: Say, where: str, database: Database, cached: Read, uncached: Read, change: Change, goal: Goal
) -> AsyncIterator[Row]:
    """Measure the four cases, in turns."""
    for writer, its_change in (("no writer", None), ("a writer", change)):
        say(f"{where}, {writer}")
        memoized, plain = Case(cached, its_change), Case(uncached, its_change)
        for row_id in range(ROWS):
            await cached(row_id)
        for _ in range(ROUNDS):
            await plain.run_round()
            await memoized.run_round()
            await memoized.check(database)
        yield Row(
            *("caching", f"{where}, {writer}", memoized.reads_per_s, "calls/s"),
            *("the same body without memo", plain.reads_per_s, goal if its_change else None),
        )
        if its_change:
            yield Row(
                *("caching", f"{where}, the writer's commands meanwhile", memoized.changes_per_s, "commands/s"),
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
