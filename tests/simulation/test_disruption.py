"""Links are cut and held up, shards killed, timers late, all at random, while everybody reads and writes: only correct
results."""

from __future__ import annotations

import asyncio
import random

import pytest

from fusion_cluster.errors import CommandNotRecorded, FusionError
from fusion_cluster.link import Peer
from fusion_cluster.testing import LocalCluster
from fusion_router.host import ClusterHost
from tests.apps.sheet import Cells, Sheet, app, fresh_store

ROWS = 3
CELL = 7
READ_LEASE_S = 0.25


class Timers:
    """The timers of some hosts' links, which end read leases among other things: while they are late, they do nothing.

    Attributes:
        hosts: those that serve nobody but themselves. Who has subscribers and is late takes theirs along.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.are_late = False
        self.hosts: list[ClusterHost] = []
        in_time = Peer._on_tick

        def on_tick(peer: Peer) -> None:
            is_late = self.are_late and any(peer in host.links._peers.values() for host in self.hosts)
            if is_late and peer._loop is not None:
                peer._tick = peer._loop.call_later(READ_LEASE_S / 10, peer._on_tick)
            else:
                in_time(peer)

        monkeypatch.setattr(Peer, "_on_tick", on_tick)


class Run:
    """One disrupted run: one writer whose values only rise, readers everywhere, and somebody who breaks things.

    Attributes:
        floor: the last value whose command has returned; no read that starts later may give less.
    """

    def __init__(self, cluster: LocalCluster, seed: int, timers: Timers | None) -> None:
        self.cluster = cluster
        self.timers = timers
        self.rng = random.Random(seed)
        self.floor = 0
        self.reads = 0
        self.is_over = False
        # What was done to the cluster, and the commands that returned: told when a read is wrong.
        self.story: list[str] = []

    def note(self, what: str) -> None:
        self.story.append(f"{asyncio.get_running_loop().time():.3f} {what}")

    async def read(self, sheet: Sheet) -> None:
        while not self.is_over:
            floor = self.floor
            try:
                total = await sheet.total(ROWS)
            except FusionError as error:
                if not error.is_transient:
                    raise
            else:
                story = "\n".join(self.story[-30:])
                assert total >= floor, f"read {total} although {floor} was written before the read began:\n{story}"
                self.reads += 1
            await asyncio.sleep(self.rng.random() * 0.002)

    async def write(self, cells: Cells) -> None:
        value = 0
        while not self.is_over:
            value += 1
            while True:
                try:
                    await cells.put(CELL, value)
                except FusionError as error:
                    # Nothing records these commands, so nobody knows of a lost one; to put a value twice does no harm.
                    if not error.is_transient and not isinstance(error, CommandNotRecorded):
                        raise
                    self.note(f"{value} failed: {error!r}")
                    await asyncio.sleep(0.005)
                else:
                    break
            self.floor = value
            self.note(f"{value} written")
            await asyncio.sleep(self.rng.random() * 0.002)

    async def disrupt(self) -> None:
        while not self.is_over:
            await asyncio.sleep(self.rng.random() * 0.05)
            shard_id = self.rng.randrange(3)
            if self.timers is not None and self.rng.random() < 0.3:
                await self.oversleep(self.timers, shard_id)
                continue
            match self.rng.randrange(4):
                case 0:
                    self.note(f"cut {shard_id}")
                    self.cluster.cut_links(shard_id)
                case 1:
                    self.note(f"hold {shard_id}")
                    self.cluster.hold_links(shard_id)
                    await asyncio.sleep(self.rng.random() * 2 * READ_LEASE_S)
                    self.note(f"release {shard_id}")
                    self.cluster.release_links(shard_id)
                case 2:
                    self.note(f"kill {shard_id}")
                    await self.cluster.kill_shard(shard_id)
                    await asyncio.sleep(self.rng.random() * 0.05)
                    await self.cluster.start_shard(shard_id)
                    self.note(f"started {shard_id}")
                case _:
                    pass

    async def oversleep(self, timers: Timers, shard_id: int) -> None:
        """As a process that was stopped: nothing comes from a shard, and no timer has told that the lease is over."""
        self.note(f"late timers, hold {shard_id}")
        timers.are_late = True
        self.cluster.hold_links(shard_id)
        await asyncio.sleep(self.rng.random() * 4 * READ_LEASE_S)
        self.note(f"timers in time, release {shard_id}")
        self.cluster.release_links(shard_id)
        timers.are_late = False


@pytest.mark.parametrize("seed", range(4))
async def test_no_read_is_older_than_the_last_command_whatever_breaks(seed: int) -> None:
    await read_write_and_disrupt(seed, None)


@pytest.mark.parametrize("seed", range(4))
async def test_nor_is_it_when_timers_come_too_late_to_end_read_leases(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await read_write_and_disrupt(seed, Timers(monkeypatch))


async def read_write_and_disrupt(seed: int, timers: Timers | None) -> None:
    store = fresh_store()
    async with LocalCluster(app, shards=3, read_lease_s=READ_LEASE_S, call_timeout_s=5.0) as cluster:
        run = Run(cluster, seed, timers)
        second = cluster.new_host("second driver")
        if timers is not None:
            timers.hosts = [cluster.host, second]
        tasks = [
            asyncio.create_task(run.read(cluster.service(Sheet))),
            asyncio.create_task(run.read(second.service(Sheet))),
            asyncio.create_task(run.write(cluster.service(Cells))),
            asyncio.create_task(run.disrupt()),
        ]
        done, _ = await asyncio.wait(tasks, timeout=2.0, return_when=asyncio.FIRST_EXCEPTION)
        run.is_over = True
        for task in done:
            task.result()
        for shard_id in range(3):
            cluster.release_links(shard_id)
        await asyncio.gather(*tasks)
        assert run.reads > 20
        assert run.floor > 5
        assert await cluster.service(Sheet).total(ROWS) == store.sheet(ROWS)
        cluster.validate()


async def test_a_subscriber_that_is_stopped_delays_a_command_by_one_read_lease_and_then_serves_nothing() -> None:
    fresh_store()
    async with LocalCluster(app, shards=2, read_lease_s=READ_LEASE_S, call_timeout_s=5.0) as cluster:
        stopped = cluster.new_host("stopped")
        cells = stopped.service(Cells)
        assert await cells.get(CELL) == 0
        replica = cells.get(CELL)
        owner = cluster.owner("Cells.get", CELL)
        cluster.hold_links(owner.address.shard_id)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await owner.host.service(Cells).put(CELL, 5)
        took_s = loop.time() - began_s
        assert READ_LEASE_S <= took_s < 4 * READ_LEASE_S
        assert not replica.is_consistent
        cluster.release_links(owner.address.shard_id)
        assert await cells.get(CELL) == 5
