"""How soon another process hears of a commit, pushed and by the operation log alone; what it costs to follow the log.

The process that commits is another one (`operation_log_writer`). It reads the clock when the database has confirmed the
COMMIT; this process reads it when its replica is invalidated. Both read the machine's one monotonic clock.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from benchmarks.command_rows import fill
from benchmarks.discovery import Say
from benchmarks.operation_log_writer import SECRET, Stamped, make_app, map_of
from benchmarks.postgres_server import postgres_server
from benchmarks.row import Goal, Row, at_most, value_at_most
from fusion_cluster import Database
from fusion_cluster.database.log_readers import LogReader, new_reader
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.tcp import dial_tcp
from fusion_cluster.protocol.slot_map import ShardAddress
from fusion_router.host import ClusterHost
from fusion_router.member import Member

LENGTHS = (1_000, 100_000, 1_000_000)
QUICK_LENGTHS = (100, 1_000)
FLAT = at_most(1.3)


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure on SQLite, then on PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        async for row in measure(say, quick, "SQLite", f"sqlite:///{folder}/rows.db"):
            yield row
    async with postgres_server() as url:
        if url is None:
            yield Row("operation_log", "PostgreSQL", None, "ms", "not measured: no server installed")
            return
        async for row in measure(say, quick, "PostgreSQL", url):
            yield row


async def measure(say: Say, quick: bool, name: str, url: str) -> AsyncIterator[Row]:
    """Measure on one database."""
    database = Database(url)
    await fill(database)
    times = 20 if quick else 300
    say(f"{name}, pushed")
    pushed_ms, read_ms = await pushed(url, times)
    yield _latency(f"pushed, {name}, median", statistics.median(pushed_ms), "a read over the link", read_ms, 1.0)
    yield _latency(f"pushed, {name}, 99 of 100", _high(pushed_ms), "a read over the link", read_ms, None)
    say(f"{name}, by the log alone")
    logged_ms = await by_the_log(url, times)
    period_ms = 1e3 * database.log.options.period_s
    goal = 100.0 if name == "PostgreSQL" else None
    for what, value in (("median", statistics.median(logged_ms)), ("99 of 100", _high(logged_ms))):
        yield _latency(f"by the log alone, {name}, {what}", value, "the log's period", period_ms, goal)
    async for row in reading(say, name, database, QUICK_LENGTHS if quick else LENGTHS):
        yield row
    await database.dispose()


def _latency(case: str, value_ms: float, reference: str, reference_ms: float, goal_ms: float | None) -> Row:
    goal: Goal | None = None if goal_ms is None else value_at_most(goal_ms)
    return Row(
        "operation_log", f"commit to invalidation elsewhere, {case}", value_ms, "ms", reference, reference_ms, goal
    )


def _high(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


# -- how soon --------------------------------------------------------------------------------------------------------
async def pushed(url: str, times: int) -> tuple[list[float], float]:
    """Milliseconds from commits on a shard to the invalidation of a replica here; and those of a read of the shard."""
    async with writer("shard", url) as (_, port):
        app = make_app(url)
        address = ShardAddress(0, "127.0.0.1", port, 1)
        host = ClusterHost(app, dial=_dial, peer_id="driver", secret=SECRET)
        host.set_slot_map(map_of(address))
        async with Member(host, database=app.database):
            rows = host.service(Stamped)
            took_ms, read_ms = [], []
            for number in range(times):
                row_id = number % 100
                began_s = time.perf_counter()
                node = rows.get(row_id)
                await node
                read_ms.append(1e3 * (time.perf_counter() - began_s))
                invalidated_ns: list[int] = []
                node.on_invalidated(lambda _, stamps=invalidated_ns: stamps.append(time.monotonic_ns()))  # type: ignore[misc]
                committed_ns = await rows.change(row_id)
                took_ms.append((invalidated_ns[0] - committed_ns) / 1e6)
    return took_ms, statistics.median(read_ms)


async def by_the_log(url: str, times: int) -> list[float]:
    """The same between two processes that have nothing in common but the database."""
    async with writer("local", url) as (process, _):
        assert process.stdin is not None
        assert process.stdout is not None
        took_ms = []
        async with make_app(url).local(strict=False) as host:
            rows = host.service(Stamped)
            for number in range(times):
                row_id = number % 100
                node = rows.get(row_id)
                await node
                invalidated = asyncio.get_running_loop().create_future()
                node.on_invalidated(lambda _, future=invalidated: future.set_result(time.monotonic_ns()))  # type: ignore[misc]
                process.stdin.write(f"{row_id}\n".encode())
                committed_ns = int(await process.stdout.readline())
                took_ms.append((await invalidated - committed_ns) / 1e6)
    return took_ms


@asynccontextmanager
async def writer(role: str, url: str) -> AsyncIterator[tuple[Process, int]]:
    """The other process, and the first number that it prints."""
    command = (sys.executable, "-m", "benchmarks.operation_log_writer", role, url)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def _dial(address: ShardAddress) -> Carrier:
    return await dial_tcp(address.host, address.port)


# -- at what cost ----------------------------------------------------------------------------------------------------
async def reading(say: Say, name: str, database: Database, lengths: tuple[int, ...]) -> AsyncIterator[Row]:
    """Milliseconds of one look at logs of several lengths, with nothing new in them."""
    shortest_ms = 0.0
    for length in lengths:
        say(f"{name}, a log of {length:,}")
        await lengthen(database, length)
        took_ms = await look(database)
        shortest_ms = shortest_ms or took_ms
        case = f"a look at a log of {length:,}, {name}"
        yield Row("operation_log", case, took_ms, "ms", f"a log of {lengths[0]:,}", shortest_ms, FLAT)
    if name == "PostgreSQL":
        async with beside_an_open_transaction(database):
            reader = new_reader(database.engines)
            await reader.start()
            await lengthen(database, lengths[-1] + lengths[-1] // 5)
            took_ms = await look(database, reader)
        case = f"the same beside a transaction that was open before a fifth of it, {name}"
        yield Row("operation_log", case, took_ms, "ms", f"a log of {lengths[0]:,}", shortest_ms, FLAT)


async def lengthen(database: Database, length: int) -> None:
    """Let the log have that many entries."""
    numbers = (
        "WITH RECURSIVE n(i) AS"
        " (SELECT count(*) + 1 FROM fusion_operations UNION ALL SELECT i + 1 FROM n WHERE i < :length)"
        " SELECT 'entry ' || i, 'benchmark', :now, CAST(:keys AS {kind}) FROM n WHERE i <= :length"
    )
    engine = database.engines().writing
    kind = "bytea" if engine.dialect.name == "postgresql" else "blob"
    statement = "INSERT INTO fusion_operations (operation_id, host, committed_at, keys) " + numbers.format(kind=kind)
    async with engine.begin() as connection:
        await connection.execute(text(statement), {"length": length, "now": time.time(), "keys": b"\x90"})


async def look(database: Database, reader: LogReader | None = None) -> float:
    """Milliseconds of one look with nothing new, the median of many."""
    if reader is None:
        reader = new_reader(database.engines)
        await reader.start()
    await reader.read()
    took_ms = []
    for _ in range(200):
        began_s = time.perf_counter()
        await reader.read()
        took_ms.append(1e3 * (time.perf_counter() - began_s))
    return statistics.median(took_ms)


@asynccontextmanager
async def beside_an_open_transaction(database: Database) -> AsyncIterator[None]:
    """While another transaction, which has written something, is open."""
    async with database.engines().writing.connect() as connection:
        await connection.execute(text("UPDATE rows SET changes = changes WHERE id = 999"))
        yield
        await connection.rollback()
