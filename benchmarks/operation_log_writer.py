"""The process of the `operation_log` benchmark that commits.

`shard URL`: a shard over the database, which prints its port and serves until its standard input ends. `local URL`:
changes the row of each number that it reads, and prints when that was committed; it prints 0 when it is ready.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from sqlalchemy import event

from benchmarks.caching_rows import StoredRow
from fusion_cluster import App, ComputeService, Database, command, compute_method
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_router.entrances import LinkEntrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member

SECRET = b"benchmark"


class Stamped(ComputeService):
    """Rows; a change gives the time at which it was committed."""

    database: Database

    @compute_method
    async def get(self, row_id: int) -> int:
        async with self.database.session() as session:
            return (await session.get_one(StoredRow, row_id)).changes

    @command
    async def change(self, row_id: int) -> int:
        """Change the row; returns the monotonic clock's nanoseconds when the database had confirmed the commit."""
        stamps: list[int] = []
        async with self.database.operation() as operation:
            row = await operation.session.get_one(StoredRow, row_id)
            row.changes += 1
            self.get.invalidate(row_id)
            operation.result(0)  # else the commit would wait for what this returns
            event.listen(
                operation.session.sync_session, "after_commit", lambda _: stamps.append(time.monotonic_ns()), once=True
            )
        return stamps[0]


def make_app(url: str) -> App:
    """The app over the database of that URL."""
    return App("stamped", services=[Stamped], database=Database(url))


def map_of(address: ShardAddress) -> SlotMap:
    """Of a cluster of one shard."""
    return SlotMap.even([0]).with_shard(address)


async def serve_shard(url: str) -> None:
    host = ClusterHost(make_app(url), dial=_nobody, peer_id="shard", secret=SECRET, shard_id=0, epoch=1)
    async with Member(host, entrances=[LinkEntrance(host, secret=SECRET)]) as member:
        name, _, port = member.address.rpartition(":")
        host.set_slot_map(map_of(ShardAddress(0, name, int(port), 1)))
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _nobody(address: ShardAddress) -> Carrier:
    raise ConnectionRefusedError(f"there is no other shard than this one, {address}")


async def write_locally(url: str) -> None:
    async with make_app(url).local(strict=False) as host:
        rows = host.service(Stamped)
        print(0, flush=True)
        read_line = sys.stdin.readline
        while line := await asyncio.get_running_loop().run_in_executor(None, read_line):
            print(await rows.change(int(line)), flush=True)


ROLES = {"shard": serve_shard, "local": write_locally}

if __name__ == "__main__":
    uvloop.run(ROLES[sys.argv[1]](sys.argv[2]))
