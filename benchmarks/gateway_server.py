"""The other process of the `gateway` benchmark: a gateway in front of a shard, or a bare grpc.aio echo server.

Prints its address, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass

import grpc
import grpc.aio
import uvloop

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway import GatewayEntrance
from fusion_router.member import Member

KEYS = 1_000
WATCHED_KEYS = 20


@dataclass(frozen=True)
class Figure:
    name: str
    count: int
    mean: float


class Figures(ComputeService):
    """Values that change only when told to."""

    counts: dict[int, int]

    def __init__(self) -> None:
        self.counts = dict.fromkeys(range(KEYS), 0)
        self.turning: asyncio.Task[None] | None = None
        # Keys that were read since their last change.
        self.read: asyncio.Queue[int] = asyncio.Queue()

    @compute_method
    async def get(self, key: int) -> Figure:
        if self.turning is not None:
            self.read.put_nowait(key)
        return Figure(f"figure {key}", self.counts[key], self.counts[key] / 3)

    @command
    async def turn(self, key: int, seconds: float) -> None:
        """For some seconds, change each of the watched keys as soon as it was read."""
        if self.turning is not None:
            self.turning.cancel()
        self.turning = asyncio.get_running_loop().create_task(self._turn(seconds))

    async def _turn(self, seconds: float) -> None:
        for key in range(WATCHED_KEYS):
            self.read.put_nowait(key)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    key = await self.read.get()
                    self.counts[key] += 1
                    self.get.invalidate(key)


app = App("figures", services=[Figures])


async def serve_gateway() -> None:
    async with LocalCluster(app, shards=1, strict=False) as cluster:
        host = cluster.new_host("gateway", epoch=1)
        async with Member(host, entrances=[GatewayEntrance(host, address="127.0.0.1:0")], grace_s=0.5) as member:
            await _until_told(member.address)


class Echo(grpc.GenericRpcHandler):
    """A server with nothing in it: `Call` gives the request back, `Stream` gives it back again and again."""

    def __init__(self) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "/benchmarks.Echo/Call": grpc.unary_unary_rpc_method_handler(self._call),
            "/benchmarks.Echo/Stream": grpc.unary_stream_rpc_method_handler(self._stream),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(handler_call_details.method)

    async def _call(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    async def _stream(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while True:
            await context.write(request)


async def serve_echo() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await _until_told(f"127.0.0.1:{port}")
    await server.stop(None)


async def _until_told(address: str) -> None:
    print(address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


SERVERS = {"gateway": serve_gateway, "echo": serve_echo}

if __name__ == "__main__":
    uvloop.run(SERVERS[sys.argv[1]]())
