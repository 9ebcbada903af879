"""Random commands in a cluster, each asked for several times under its id, beside cancellations, cut links, pushes that
are never made and shards that are started again: each takes effect once, and nothing cached differs from the database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import pytest

from fusion_cluster import App, ComputeService, Database, LogOptions, command, compute_method, gather
from fusion_cluster.commands import pipeline
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.errors import CommandResultLost, FusionError, ShardUnavailable
from fusion_cluster.graph import DONE
from fusion_cluster.host import Host
from fusion_cluster.testing import LocalCluster
from fusion_router.host import ClusterHost
from fusion_router.invalidation import Keys
from tests.apps.counters import Base, CounterRow, counts
from tests.waiting import until_so

pytest_plugins = ["tests.databases"]

WORKERS = 5
COMMANDS = 8
SHELVES = [f"shelf {number}" for number in range(4)]


class Shop(ComputeService):
    """A row for each command, which tells how often it has taken effect; and sums that many of them change."""

    database: Database

    @compute_method
    async def count(self, name: str) -> int:
        async with self.database.session() as session:
            row = await session.get(CounterRow, name)
            return row.count if row else 0

    @compute_method
    async def sum(self) -> int:
        return sum(await gather(*(self.count(name) for name in SHELVES)))

    @command
    async def put(self, shelf: str, name: str, *, records: bool) -> str:
        async with self.database.operation() as operation:
            for row_name in (shelf, name):
                row = await operation.session.get(CounterRow, row_name, with_for_update=True)
                if row is None:
                    row = CounterRow(name=row_name, count=0)
                    operation.session.add(row)
                row.count += 1
                self.count.invalidate(row_name)
            if records:
                operation.result(f"{name} is put")
        await asyncio.sleep(0.001)
        return f"{name} is put"

    @command
    async def put_twice(self, shelf: str, other: str, name: str) -> None:
        async with self.database.operation():
            await self.put(shelf, f"{name}, here", records=True)
            await self.put(other, f"{name}, there", records=False)


class Chaos:
    """A cluster in which much goes wrong."""

    def __init__(self, cluster: LocalCluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.ids: dict[str, tuple[str, tuple[object, ...]]] = {}
        self.is_over = False

    def member(self) -> ClusterHost:
        return self.random.choice([self.cluster.host, *(shard.host for shard in self.cluster.shards.values())])

    async def work(self, worker: int) -> None:
        for number in range(COMMANDS):
            name = f"{worker}.{number}"
            shelf, other = self.random.sample(SHELVES, 2)
            call = self.random.choice(
                [("put", (shelf, name, True)), ("put", (shelf, name, False)), ("put_twice", (shelf, other, name))]
            )
            self.ids[name] = call
            uses = [asyncio.create_task(self.use(name)) for _ in range(self.random.randint(1, 3))]
            for use in uses:
                if self.random.random() < 0.3:
                    await asyncio.sleep(self.random.random() * 0.02)
                    use.cancel()
            await asyncio.wait(uses)
            with suppress(ShardUnavailable):  # it may be one that is being started again
                await self.member().service(Shop).sum()

    async def use(self, command_id: str) -> None:
        """Ask for a command from somewhere; whatever comes of it."""
        method, arguments = self.ids[command_id]
        member = self.member()
        try:
            result = await member.carry_out(member.command(f"Shop.{method}").invocation(arguments, command_id))
        except (FusionError, asyncio.CancelledError):
            return
        assert result.value == (None if method == "put_twice" else f"{command_id} is put")

    async def disturb(self) -> None:
        while not self.is_over:
            await asyncio.sleep(self.random.random() * 0.03)
            shard_id = self.random.randrange(3)
            match self.random.randrange(4):
                case 0:
                    self.cluster.cut_links(shard_id)
                case 1:
                    await self.cluster.kill_shard(shard_id)
                    await self.cluster.start_shard(shard_id)
                case 2:
                    self.mute(self.cluster.shards[shard_id].host)
                case 3:
                    assert self.cluster.app.database is not None
                    await LogTrimmer(self.cluster.app.database).trim()

    def mute(self, host: ClusterHost) -> None:
        """Let a member tell nobody of its next commit: the log has to."""
        publish = host.publications.publish

        def silent(keys: Keys, barrier: bool, operation_id: str = "") -> Awaitable[None]:
            host.publications.publish = publish  # type: ignore[method-assign]
            host.invalidations.apply(keys, operation_id)
            return DONE

        host.publications.publish = silent  # type: ignore[method-assign]

    async def settle(self) -> None:
        """Ask for each command until it is known to be done."""
        for command_id, (method, arguments) in self.ids.items():
            host = self.cluster.host
            with_result = host.carry_out(
                host.command(f"Shop.{method}").invocation(arguments, command_id, is_retry=True)
            )
            try:
                await with_result
            except CommandResultLost:
                assert method == "put"
                assert arguments[-1] is False


@asynccontextmanager
async def chaos_in(database_url: str, seed: int) -> AsyncIterator[Chaos]:
    database = Database(database_url, log=LogOptions(period_s=0.05, retention_s=5.0))
    await database.create_tables(Base.metadata)
    async with LocalCluster(App("shop", [Shop], database=database), shards=3, read_lease_s=0.2) as cluster:
        yield Chaos(cluster, seed)


async def trim_all(database_url: str) -> None:
    """Let all entries of the log go, as after an hour."""
    database = Database(database_url, log=LogOptions(retention_s=1e-6))
    while await LogTrimmer(database).trim():
        pass
    await database.dispose()


@pytest.mark.parametrize("seed", range(2))
async def test_each_command_takes_effect_once_and_nothing_cached_differs_from_the_database(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESULT_PATIENCE_S", 0.1)
    async with chaos_in(database_url, seed) as chaos:
        disturbing = asyncio.create_task(chaos.disturb())
        await asyncio.gather(*(chaos.work(worker) for worker in range(WORKERS)))
        chaos.is_over = True
        await disturbing
        if seed % 2:
            await trim_all(database_url)
        await chaos.settle()

        database = chaos.cluster.app.database
        assert database is not None
        found = await counts(database)
        effects = {name: count for name, count in found.items() if name not in SHELVES}
        expected = set[str]()
        for command_id, (method, _) in chaos.ids.items():
            expected |= {command_id} if method == "put" else {f"{command_id}, here", f"{command_id}, there"}
        assert effects == dict.fromkeys(expected, 1)
        assert sum(found[name] for name in SHELVES if name in found) == len(expected)

        async def is_right_everywhere() -> bool:
            members: list[Host] = [chaos.cluster.host, *(shard.host for shard in chaos.cluster.shards.values())]
            for member in members:
                shop = member.service(Shop)
                if await shop.sum() != len(expected):
                    return False
                for name in SHELVES:
                    if await shop.count(name) != found.get(name, 0):
                        return False
            return True

        await until_so(is_right_everywhere, what="what is cached, to be what the database holds,")
