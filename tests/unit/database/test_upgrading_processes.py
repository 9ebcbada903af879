"""Processes that upgrade at the same time, and one that is killed while it does."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from sqlalchemy import inspect, text

from fusion_cluster.database import Database
from fusion_cluster.database.migrations import NEWEST, VERSION_TABLE, find_revision, upgrade
from tests.thorough import times

pytestmark = pytest.mark.empty_database

pytest_plugins = ["tests.databases"]

ROOT = Path(__file__).parents[3]

Start: TypeAlias = Callable[..., Coroutine[Any, Any, Process]]


@asynccontextmanager
async def killed_in_the_end(process: Process) -> AsyncIterator[Process]:
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def start(database_url: str) -> AsyncIterator[Start]:
    """Starts a process that upgrades when it is sent a line."""
    async with AsyncExitStack() as stack:

        async def start(*options: str) -> Process:
            module = "tests.unit.database.upgrading_process"
            command = (sys.executable, "-W", "error", "-m", module, database_url, *options)
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            return await stack.enter_async_context(killed_in_the_end(process))

        yield start


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    if not line:
        raise AssertionError((await process.communicate())[1].decode())
    return line


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def tables(database: Database) -> set[str]:
    async with database.engines().reading.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_of_processes_that_upgrade_at_once_one_does_and_the_others_find_it_done(
    database: Database, start: Start
) -> None:
    count = times(3, 6)
    processes = [await start() for _ in range(count)]
    assert [await line_of(process) for process in processes] == ["ready"] * count
    for process in processes:
        go(process)
    said = [await process.communicate() for process in processes]
    assert [errors.decode() for _, errors in said] == [""] * count
    steps = sorted(output.decode().strip() for output, _ in said)
    assert steps == [f"{NEWEST} {NEWEST}"] * (count - 1) + [f"None {NEWEST}"]
    async with database.session() as session:
        versions = (await session.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))).scalars().all()
        trimmed = (await session.execute(text("SELECT id, position, transaction_id FROM fusion_trimmed"))).all()
    assert versions == [NEWEST]
    assert [tuple(row) for row in trimmed] == [(1, 0, 0)]


async def test_a_process_that_is_killed_in_the_midst_leaves_nothing_and_holds_up_nobody(
    database: Database, start: Start
) -> None:
    process = await start("stop")
    assert await line_of(process) == "ready"
    go(process)
    assert await line_of(process) == "stopped"
    waiting = asyncio.create_task(upgrade(database.engines().writing))
    assert await tables(database) == set()
    assert await find_revision(database.engines().reading) is None
    assert not waiting.done()
    process.kill()
    done = await waiting
    assert (done.before, done.after) == (None, NEWEST)
    assert {VERSION_TABLE, "fusion_operations", "fusion_events"} <= await tables(database)
