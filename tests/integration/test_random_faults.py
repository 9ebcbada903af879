"""Random commands from many clients while shards are killed at random: each takes effect once, nothing stale is served.

`FUSION_FAULT_SEED` repeats a run, as far as processes can be made to repeat one; `FUSION_FAULT_COUNT` makes it longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import text

from fusion_cluster import Database
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.client import connect
from tests.apps.bank import Branches, open_bank, read_books
from tests.apps.customers import Customer, Execute, Ledger, by_name
from tests.faults.crash_points import POINTS
from tests.processes.process_cluster import ProcessCluster
from tests.thorough import times

pytest_plugins = ["tests.databases", "tests.processes.zygotes"]

SEED = int(os.environ.get("FUSION_FAULT_SEED", "0")) or secrets.randbits(32)
COUNT = int(os.environ.get("FUSION_FAULT_COUNT", "0")) or times(250, 500)
CLIENTS = 20
SHARDS = 3


async def kill_at_random(cluster: ProcessCluster, url: str, rng: random.Random) -> None:
    """Kill processes, and cut connections of the database, until cancelled.

    Shards die at any moment, or at a step of the next command that comes by.
    """
    database = Database(url)
    try:
        while True:
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            what = rng.choices(["a shard", "a gateway", "all", "connections"], [16, 2, 1, 2])[0]
            shard_id, point = rng.randrange(SHARDS), rng.choice([None, *POINTS])
            victim = cluster.members.get(("gateway", 0) if what == "a gateway" else ("shard", shard_id))
            if what == "connections" and url.startswith("postgresql:"):
                async with database.session() as session:
                    await session.execute(CUT_SOME)
            elif what == "all":
                for member in cluster.members.values():
                    member.kill()
            elif victim is not None:
                if what == "a gateway" or point is None:
                    victim.kill()
                else:
                    victim.ask("arm", point)
    finally:
        await database.dispose()


CUT_SOME = text(
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 4) chosen"
)


@pytest.fixture
async def cluster(zygote: subprocess.Popen[bytes], database_url: str) -> AsyncIterator[ProcessCluster]:
    await open_bank(database_url)
    async with ProcessCluster(zygote, database_url, shards=SHARDS, gateways=1) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.timeout(120 + COUNT // 5)
async def test_each_of_many_random_commands_takes_effect_once_while_shards_are_killed_at_random(
    cluster: ProcessCluster, database_url: str
) -> None:
    print(f"FUSION_FAULT_SEED={SEED} FUSION_FAULT_COUNT={COUNT}")
    rng = random.Random(SEED)
    ledger = Ledger()
    began_s = time.monotonic()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(connect(cluster.gateway_address(), timeout_s=20))
        drivers = [cluster.host, cluster.new_driver("another driver")]
        executes: list[tuple[Execute, Callable[[type[ComputeService]], Any]]] = [
            *((by_name(driver.service), driver.service) for driver in drivers),
            (by_name(session.service), session.service),
            (session.execute, session.service),
        ]
        customers = [
            Customer(i, ledger, *executes[i % len(executes)], seed=rng.randrange(2**32)) for i in range(CLIENTS)
        ]
        killing = asyncio.create_task(kill_at_random(cluster, database_url, random.Random(rng.randrange(2**32))))
        try:
            async with asyncio.TaskGroup() as group:
                for customer in customers:
                    group.create_task(customer.run(COUNT // CLIENTS))
        finally:
            killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killing
    took_s = time.monotonic() - began_s

    deaths = cluster.deaths
    books = await read_books(database_url)
    ledger.check(books)
    assert len(ledger.done) + len(ledger.refused) == COUNT // CLIENTS * CLIENTS
    await cluster.until_up()
    cached_count = await cluster.check(books)
    for branch in range(4):
        await cluster.host.service(Branches).total(branch)
    await cluster.host.service(Branches).all()
    await cluster.check(books)
    print(f"{ledger}; in {took_s:.1f} s, with {deaths} deaths; {cached_count} cached values compared")
    assert deaths > took_s / 10
