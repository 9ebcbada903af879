"""A reader in a process of its own, for tests that stop it.

`python -m tests.processes.sleepy_reader link|client HOST:PORT` starts it.
Keeps a replica of cell 7, and of row 1 which it is in, read over a link to a shard or through a gateway. It takes one
line at a time from its input, and waits for it as a stopped process would: its event loop does not turn. What it is
asked to do next, it does before any timer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fusion_cluster import Computed, gather
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.client import connect
from fusion_cluster.link import Carrier, dial_tcp
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from tests.apps.sheet import Cells, Rows, app

SECRET = b"the secret of the test"
CELL = 7
ROW = 1


async def get(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    return await cells.get(CELL)


async def look_up(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    value: int = await cells.get.function.lookup((CELL,))
    return value


async def gathered(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    return sum(await gather(cells.get(CELL), cells.get(CELL))) // 2


async def peek(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    found = cells.get.peek(CELL)
    return await cells.get(CELL) if found is None else found.value


async def held_if_consistent(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    return held.value if held.is_consistent else await cells.get(CELL)


async def update(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    return (await held.update()).value


async def row(cells: Cells, rows: Rows, held: Computed[int]) -> int:
    return await rows.total(ROW)


WAYS: dict[str, Callable[[Cells, Rows, Computed[int]], Awaitable[int]]] = {
    way.__name__: way for way in (get, look_up, gathered, peek, held_if_consistent, update, row)
}


@asynccontextmanager
async def linked(address: str) -> AsyncIterator[Callable[[type[ComputeService]], ComputeService]]:
    host, _, port = address.rpartition(":")

    async def dial(shard: ShardAddress) -> Carrier:
        return await dial_tcp(shard.host, shard.port)

    reader = ClusterHost(app, dial=dial, peer_id=f"reader-{os.getpid()}", secret=SECRET)
    reader.set_slot_map(SlotMap.even([0]).with_shard(ShardAddress(0, host, int(port), 1)))
    async with Member(reader):
        yield reader.service


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Callable[[type[ComputeService]], ComputeService]]:
    async with connect(address) as client:
        yield client.service


async def main(kind: str, address: str) -> None:
    async with (linked if kind == "link" else connected)(address) as service:
        cells, rows = service(Cells), service(Rows)
        assert isinstance(cells, Cells)
        assert isinstance(rows, Rows)
        held = cells.get(CELL)
        print(await held, await rows.total(ROW), flush=True)
        for line in sys.stdin:
            if line == "without a fence\n":
                held.function.graph.registry.on_fence = None
                print("none", flush=True)
            else:
                print(await WAYS[line.strip()](cells, rows, held), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
