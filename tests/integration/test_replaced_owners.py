"""A shard is taken for dead and has a successor, but goes on: what both run under one id takes effect once."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator

import pytest

from tests.apps.bank import OPENING_BALANCE, open_bank, read_books
from tests.processes.process_cluster import ProcessCluster
from tests.waiting import until

pytest_plugins = ["tests.databases", "tests.processes.zygotes"]

BLOCKING = ("rows written", "entry written")
"""Where the shard stops within its transaction: the successor has to wait for that."""

CASES = [
    *(
        (command, point)
        for command in ("deposit", "deposit_on_a_slip")
        for point in ("before the transaction", *BLOCKING)
    ),
    *(("deposit", point) for point in ("committed", "before the first push")),
]


@pytest.fixture
async def cluster(zygote: subprocess.Popen[bytes], database_url: str) -> AsyncIterator[ProcessCluster]:
    await open_bank(database_url)
    async with ProcessCluster(zygote, database_url, call_timeout_s=20.0) as cluster:
        yield cluster


@pytest.mark.parametrize(("command", "point"), CASES)
async def test_a_shard_that_goes_on_beside_its_successor_doubles_nothing(
    cluster: ProcessCluster, database_url: str, command: str, point: str
) -> None:
    await cluster.read_all()
    home = cluster.owner("Accounts.balance", 3)
    number = next(n for n in ("one", "two", "three", "four") if cluster.owner("Receipts.times", n) != home)
    await cluster.shard(home).ask("arm to stop", point)
    bound = cluster.host.command(f"Accounts.{command}")
    depositing = asyncio.create_task(cluster.host.execute(bound.invocation((3, 5, number), number)))
    stopped = cluster.shard(home)
    await until(lambda: stopped.is_stopped)
    assert cluster.replace(home) is stopped
    await cluster.until_up()
    if point in BLOCKING:
        await asyncio.wait([depositing], timeout=1.0)
        assert not depositing.done()
    else:
        assert await depositing == OPENING_BALANCE + 5
    stopped.go_on()
    assert await depositing == OPENING_BALANCE + 5
    await stopped.ask("finish commands", 10.0)

    books = await read_books(database_url)
    books.check()
    assert books.times == {number: 1}
    await cluster.check(books)
    assert await cluster.host.execute(bound.invocation((3, 5, number), number)) == OPENING_BALANCE + 5
