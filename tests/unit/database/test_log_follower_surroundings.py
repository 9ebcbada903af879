"""Following the operation log beside other event loops, forked processes, slow readers, streams of commits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import cast

import pytest

from fusion_cluster.commands import Operation
from fusion_cluster.database import log_follower
from fusion_cluster.database.operation_log import OperationLog
from tests.apps.shelves import Gate, ShelfRow, Shelves, shelves_host, shelves_hosts
from tests.following import OFTEN, SELDOM, follower_of, has_read
from tests.waiting import until

pytest_plugins = ["tests.databases"]


# -- other loops, other processes --------------------------------------------------------------------------------------
async def test_a_commit_in_another_event_loop_notifies_in_the_followers_own(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelves_host(database_url, log=SELDOM) as host:
        database, loops = host.service(Shelves).database, list[asyncio.AbstractEventLoop]()
        monkeypatch.setattr(follower_of(host)._wake, "notify", lambda: loops.append(asyncio.get_running_loop()))

        async def script() -> None:
            async with database.operation() as operation:
                operation.session.add(ShelfRow(id=1, amount=3))
            await database.dispose()

        await asyncio.to_thread(asyncio.run, script())
        await until(lambda: loops)
        assert loops == [asyncio.get_running_loop()]


async def test_a_commit_in_a_forked_process_leaves_the_followers_connections_alone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelves_host(database_url, log=SELDOM) as host:
        follower = follower_of(host)
        monkeypatch.setattr(follower._wake, "notify", lambda: pytest.fail("with the connection of another process"))
        monkeypatch.setattr(follower, "_pid", -1)
        follower._on_logged(cast(Operation, None))


async def test_a_host_leaves_no_task_behind(database_url: str) -> None:
    async with shelves_host(database_url, log=OFTEN) as host:
        await host.service(Shelves).put(1, 5)
        await has_read(host, 1)
        log = host.service(Shelves).database.log
    assert log.on_logged == []
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


# -- beside others -----------------------------------------------------------------------------------------------------
async def test_slow_readers_do_not_keep_the_log_from_being_read(database_url: str) -> None:
    async with shelves_hosts(database_url, log=SELDOM) as (here, there):
        shown, engines = there.service(Shelves).amount(1), there.service(Shelves).database.engines()
        await shown
        async with AsyncExitStack() as stack:
            while not engines.readers.locked():
                await stack.enter_async_context(engines.readers)
            await here.service(Shelves).put(1, 5)
            await asyncio.wait_for(shown.when_invalidated(), 5)


async def test_a_stream_of_commits_is_not_read_one_by_one(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "SHORTEST_PAUSE_S", 0.2)  # long beside a commit, on a busy machine, too
    async with shelves_hosts(database_url, log=OFTEN) as (here, there):
        for amount in range(100):
            await here.service(Shelves).put(amount, amount)
        await has_read(there, 100)
        assert follower_of(there).read_count < 100


async def test_what_a_task_records_while_the_entry_is_written_is_logged_too(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelves_hosts(database_url, log=SELDOM) as (here, there):
        shown = [host.service(Shelves).amount(number) for host in (here, there) for number in (1, 2)]
        for node in shown:
            await node
        shelves, gate, write = here.service(Shelves), Gate(), OperationLog.write

        async def held(log: OperationLog, operation: Operation) -> None:
            await write(log, operation)
            await gate.pass_through()

        async def straggle() -> None:
            await gate.reached.wait()
            shelves.amount.invalidate(2)
            assert all(node.is_consistent for node in shown), "it is part of the operation all the same"
            gate.opened.set()

        monkeypatch.setattr(OperationLog, "write", held)
        async with shelves.database.operation() as operation:
            straggler = asyncio.create_task(straggle())
            operation.session.add(ShelfRow(id=1, amount=3))
            shelves.amount.invalidate(1)
        await straggler
        await asyncio.wait_for(asyncio.gather(*(node.when_invalidated() for node in shown)), 5)
