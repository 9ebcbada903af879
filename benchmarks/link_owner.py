"""The answering process of the `link` benchmark: an echo over a link, a real graph over a link, or a bare gRPC echo.

Prints the port it listens on, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import cast

import grpc
import grpc.aio
import uvloop

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.link import ServedSession, SessionAcceptor, listen_tcp
from fusion_cluster.protocol.edge_chasing import Probe
from fusion_cluster.testing import LocalCluster
from fusion_cluster.v1.session_pb2 import Call, Invalidate

SECRET = b"benchmark"
ECHO_METHOD = "/benchmarks.Echo/Call"
KEYS = 1_000


class EchoHandler:
    """Answers every read with its arguments, at once."""

    epoch = 1
    slot_map_version = 1

    def on_session(self, session: ServedSession) -> None:
        """Nothing to prepare."""

    def on_calls(self, session: ServedSession, calls: Sequence[Call]) -> None:
        send_result = session.send_result
        for call in calls:
            send_result(call.id, 1, call.arguments, subscribed=True)

    def on_cancelled(self, session: ServedSession, ids: Sequence[int]) -> None:
        """Nothing runs."""

    def on_unsubscribed(self, session: ServedSession, ids: Sequence[int]) -> None:
        """Nothing is watched."""

    def on_invalidate(self, session: ServedSession, request: Invalidate) -> None:
        session.send_result(request.id, 0, b"", subscribed=False)

    def on_barrier_answered(self, session: ServedSession, barrier: int, confirms: bool) -> None:
        """None is sent."""

    def on_probe(self, session: ServedSession, call_id: int, probe: Probe) -> None:
        """None is passed on."""

    def on_session_lost(self, session: ServedSession) -> None:
        """Nothing to clear."""


class Figures(ComputeService):
    """Values that are computed once, and stay."""

    @compute_method
    async def get(self, key: int) -> int:
        return key * key


async def serve_echo() -> None:
    acceptor = SessionAcceptor(EchoHandler(), peer_id="echo", secret=SECRET)
    listener = await listen_tcp(acceptor)
    await _until_told(listener.address[1])
    await listener.close()
    await acceptor.close()


async def serve_graph() -> None:
    async with LocalCluster(App("figures", services=[Figures]), shards=1, strict=False) as cluster:
        acceptor = SessionAcceptor(cluster.shards[0].serving, peer_id="graph", secret=SECRET)
        listener = await listen_tcp(acceptor)
        await _until_told(listener.address[1])
        await listener.close()
        await acceptor.close()


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve_tcp() -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    await _until_told(server.sockets[0].getsockname()[1])
    server.close()


async def serve_grpc() -> None:
    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("benchmarks.Echo", {"Call": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await _until_told(port)
    await server.stop(None)


async def _until_told(port: int) -> None:
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


SERVERS = {"echo": serve_echo, "graph": serve_graph, "grpc": serve_grpc, "tcp": serve_tcp}

if __name__ == "__main__":
    uvloop.run(SERVERS[sys.argv[1]]())
