"""What a command costs beside the same transaction written by hand with SQLAlchemy, without log and invalidations.

Both change one row with the same statements, on SQLite and on PostgreSQL, set up as in production: PostgreSQL with its
normal durability. A command whose id its caller has made, as clients do, may be a retry, so it is looked up before it
runs; one that was called in this process is not. By hand there are two references: an engine of one's own, set up as
SQLAlchemy's documentation says, and the library's, whose connections take fewer messages to the driver.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.caching_rows import ROWS
from benchmarks.command_rows import (
    Changes,
    fill,
    hand_with_an_engine_of_its_own,
    hand_with_the_librarys_engine,
    make_app,
)
from benchmarks.discovery import Say
from benchmarks.postgres_server import postgres_server
from benchmarks.rounds import Rounds
from benchmarks.row import Row, at_most

CALLERS = (1, 20)
FULL, QUICK = Rounds(count=30, round_s=0.25), Rounds(count=1, round_s=0.05)
GOAL = at_most(1.6)
BY_HAND = "the same transaction by hand"
ON_ITS_CONNECTIONS = "the same by hand, on the library's connections"

Change = Callable[[int], Awaitable[object]]


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure on SQLite, then on PostgreSQL."""
    rounds = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        async for row in measure(say, rounds, "SQLite", f"sqlite:///{folder}/rows.db"):
            yield row
    async with postgres_server() as url:
        if url is None:
            yield Row("command", "PostgreSQL", None, "ms", "not measured: no server installed")
            return
        async for row in measure(say, rounds, "PostgreSQL", url):
            yield row


async def measure(say: Say, rounds: Rounds, name: str, url: str) -> AsyncIterator[Row]:
    """Measure on one database."""
    app = make_app(url)
    database = app.database
    assert database is not None
    await fill(database)
    async with app.local(strict=False) as host, hand_with_an_engine_of_its_own(url) as by_hand:
        changes = host.service(Changes)

        async def with_the_callers_id(row_id: int) -> None:
            await host.carry_out(changes.change.invocation((row_id,), uuid.uuid4().hex))

        ways: dict[str, Change] = {
            "a command": changes.change,
            "a command under its caller's id": with_the_callers_id,
            BY_HAND: by_hand.change,
            ON_ITS_CONNECTIONS: hand_with_the_librarys_engine(database).change,
        }
        for callers in CALLERS:
            label = "one after another" if callers == 1 else f"{callers} at a time"
            say(f"{name}, {label}")
            took_ms = await in_turns(ways, callers, rounds)
            references = {way: took_ms.pop(way) for way in (BY_HAND, ON_ITS_CONNECTIONS)}
            for way, each_ms in took_ms.items():
                for reference, reference_ms in references.items():
                    yield Row("command", f"{way}, {name}, {label}", each_ms, "ms", reference, reference_ms, GOAL)


async def in_turns(ways: dict[str, Change], callers: int, rounds: Rounds) -> dict[str, float]:
    """Milliseconds per change, the median of the rounds of each way.

    The ways take turns, each time in another order, so that what else the machine does slows all of them.
    """
    rows = itertools.cycle(range(ROWS))
    took_ms: dict[str, list[float]] = {way: [] for way in ways}
    order, shuffle = list(ways), random.Random(0).shuffle
    for number in range(rounds.count + 1):
        shuffle(order)
        for way in order:
            measured_ms = await one_round(ways[way], callers, rounds.round_s, rows)
            if number:  # the first is to warm up
                took_ms[way].append(measured_ms)
    return {way: statistics.median(values) for way, values in took_ms.items()}


async def one_round(change: Change, callers: int, round_s: float, rows: itertools.cycle[int]) -> float:
    """Milliseconds per change while so many callers make them, each one after the other, of different rows."""
    begin_s = time.perf_counter()
    deadline_s = begin_s + round_s

    async def call() -> int:
        count = 0
        while time.perf_counter() < deadline_s:
            await change(next(rows))
            count += 1
        return count

    counts = await asyncio.gather(*(call() for _ in range(callers)))
    return 1e3 * (time.perf_counter() - begin_s) / sum(counts)
