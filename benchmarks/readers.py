"""Readers of random rows, and perhaps a writer that changes them, for the `caching` benchmark."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.caching_rows import ROWS, Content, stored
from fusion_cluster import Database

READERS = 10

Read = Callable[[int], Awaitable[Content]]
Change = Callable[[int], Awaitable[int]]


@dataclass(frozen=True)
class Pace:
    """How a reader shares the event loop with the others and the writer.

    Attributes:
        reads: how many it makes before it looks at the clock.
        turn_s: how long it goes on before it lets the others go on.
    """

    reads: int
    turn_s: float


@dataclass
class Readers:
    """Readers with or without a writer, and what came of it.

    Attributes:
        read: reads one row.
        change: changes one row and returns how often that has been done; None where nobody writes.
        pace: of the readers.
        reads: in all rounds.
        changes: in all rounds.
        elapsed_s: in all rounds.
    """

    read: Read
    change: Change | None
    pace: Pace
    reads: int = 0
    changes: int = 0
    elapsed_s: float = 0.0

    def __post_init__(self) -> None:
        self._parts = [self._random_rows(seed) for seed in range(READERS)]
        self._written = random.Random("writer")

    def _random_rows(self, seed: int) -> Iterator[Sequence[int]]:
        """The rows that a reader reads, in parts; made before the first round, for they cost more than cached reads."""
        size, rows = self.pace.reads, random.Random(seed).choices(range(ROWS), k=100 * self.pace.reads)
        return itertools.cycle([rows[begin : begin + size] for begin in range(0, len(rows), size)])

    @property
    def reads_per_s(self) -> float:
        """The rate over all rounds."""
        return self.reads / self.elapsed_s

    @property
    def changes_per_s(self) -> float:
        """The rate over all rounds."""
        return self.changes / self.elapsed_s

    async def run_round(self, round_s: float) -> None:
        """Let readers and writer run for a while; count.

        Raises:
            AssertionError: the writer has read what was there before its change.
        """
        begin_s = time.perf_counter()
        deadline_s = begin_s + round_s
        writing = asyncio.create_task(self._write(deadline_s))
        reads = await asyncio.gather(*(self._read(parts, deadline_s) for parts in self._parts))
        self.elapsed_s += time.perf_counter() - begin_s
        self.reads += sum(reads)
        self.changes += await writing

    async def check(self, database: Database) -> None:
        """Compare every row that is read with the database.

        Raises:
            AssertionError: one differs.
        """
        for row_id, content in (await stored(database)).items():
            seen = await self.read(row_id)
            if seen != content:
                raise AssertionError(f"stale: read {seen}, stored is {content}")

    async def _read(self, parts: Iterator[Sequence[int]], deadline_s: float) -> int:
        """Read rows; return how many. Nothing but the reads is in the innermost loop."""
        read, pace, clock = self.read, self.pace, time.perf_counter
        reads = 0
        while (now_s := clock()) < deadline_s:
            turn_ends_s = now_s + pace.turn_s
            while True:
                for row_id in next(parts):
                    await read(row_id)
                reads += pace.reads
                if clock() >= turn_ends_s:
                    break
            await asyncio.sleep(0)
        return reads

    async def _write(self, deadline_s: float) -> int:
        """Change random rows one after the other, and see that each change is seen; return how many."""
        changes = 0
        while self.change is not None and time.perf_counter() < deadline_s:
            row_id = self._written.randrange(ROWS)
            expected = await self.change(row_id)
            seen = await self.read(row_id)
            if seen.changes < expected:
                raise AssertionError(f"stale: row {row_id} read as of change {seen.changes}, after change {expected}")
            changes += 1
        return changes
