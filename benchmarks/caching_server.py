"""The other process of the `caching` benchmark: two shards and a gateway over the database of the URL given.

Prints the gateway's address, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from benchmarks.caching_rows import make_app
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway import GatewayEntrance
from fusion_router.member import Member


async def serve(url: str) -> None:
    """Serve the app of that database."""
    async with LocalCluster(make_app(url), shards=2, strict=False) as cluster:
        host = cluster.new_host("gateway", epoch=1)
        async with Member(host, entrances=[GatewayEntrance(host, address="127.0.0.1:0")], grace_s=0.5) as member:
            print(member.address, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
