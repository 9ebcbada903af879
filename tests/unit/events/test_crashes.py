"""Processes that die while they deliver: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fusion_cluster import Database
from fusion_cluster.database.event_store import EventState
from tests.unit.events.delivering_process import CLAIM_S
from tests.unit.events.orders import Ledger, OrderPlaced, entries, orders_host, quick, until_delivered
from tests.waiting import until_so

pytest_plugins = ["tests.databases"]

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 30.0


@asynccontextmanager
async def process(url: str, place: str) -> AsyncIterator[Process]:
    command = (sys.executable, "-W", "error", "-m", "tests.unit.events.delivering_process", url, place)
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        assert await line(running) == "ready"
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()
        running._transport.close()  # type: ignore[attr-defined]


async def line(running: Process) -> str:
    assert running.stdout is not None
    return (await asyncio.wait_for(running.stdout.readline(), TIMEOUT_S)).decode().strip()


async def emit(database: Database, *events: object) -> None:
    async with database.operation() as operation:
        for event in events:
            operation.emit(event)


@pytest.mark.parametrize(
    ("place", "is_done"), [("before", False), ("committed", True), ("handled", True)], ids=lambda value: str(value)
)
async def test_what_a_process_was_delivering_when_it_was_killed_has_its_effect_once(
    database_url: str, database: Database, place: str, is_done: bool
) -> None:
    async with process(database_url, place) as doomed:
        await emit(database, OrderPlaced(1, 1), OrderPlaced(1, 2))
        assert await line(doomed) == f"{place} 1"
        doomed.send_signal(signal.SIGKILL)
        await doomed.wait()
    assert await entries(database) == ([1] if is_done else [])
    async with orders_host(database, quick(claim_s=CLAIM_S, poll_period_s=0.05)) as host:
        await until_delivered(database)
        assert await entries(database) == [1, 2]
        assert len(host.service(Ledger).calls) == (1 if is_done else 2)
        assert await database.events.list() == []


async def test_an_event_that_kills_whoever_delivers_it_ends_dead(database_url: str, database: Database) -> None:
    await emit(database, OrderPlaced(1, 1), OrderPlaced(1, 2))
    for _ in range(2):
        async with process(database_url, "before") as doomed:
            assert await line(doomed) == "before 1"
    async with orders_host(database, quick(claim_s=CLAIM_S, poll_period_s=0.05, max_attempts=2)):
        await until_delivered(database)
    (dead,) = await database.events.list(state=EventState.DEAD)
    assert (dead.event["number"], dead.attempts) == (1, 2)
    assert "the process ended" in str(dead.error)
    assert await entries(database) == [2]


async def test_a_process_that_was_stopped_for_longer_than_its_claim_does_nothing_twice(
    database_url: str, database: Database
) -> None:
    async with process(database_url, "before") as stopped:
        await emit(database, OrderPlaced(1, 1))
        assert await line(stopped) == "before 1"
        stopped.send_signal(signal.SIGSTOP)
        async with orders_host(database, quick(claim_s=CLAIM_S, poll_period_s=0.05)):
            await until_delivered(database)
        assert await entries(database) == [1]
        stopped.send_signal(signal.SIGCONT)
        await emit(database, OrderPlaced(2, 2))
        assert await line(stopped) == "before 2", "it goes on with what there is to do"
    assert await entries(database) == [1]


async def test_processes_that_deliver_from_one_outbox_and_are_killed_lose_nothing_and_do_nothing_twice(
    database_url: str, database: Database
) -> None:
    expected = {order_id: [10 * order_id + count for count in range(10)] for order_id in range(8)}
    await emit(database, *(OrderPlaced(number // 10, number) for numbers in expected.values() for number in numbers))

    async def are_done(count: int) -> bool:
        return len(await entries(database)) >= count

    async with process(database_url, "nowhere") as first, process(database_url, "nowhere") as second:
        await until_so(lambda: are_done(10), timeout_s=TIMEOUT_S)
        first.kill()
        await until_so(lambda: are_done(25), timeout_s=TIMEOUT_S)
        second.kill()
    async with orders_host(database, quick(claim_s=CLAIM_S, poll_period_s=0.05, max_attempts=10)):
        await until_delivered(database, timeout_s=TIMEOUT_S)
    for order_id, numbers in expected.items():
        assert await entries(database, order_id) == numbers
    assert await database.events.list() == []
