"""The calling process of the `link` benchmark: many callers over one link, one gRPC channel, or one Ray actor handle.

Reads lines "CALLERS SECONDS" and answers each with "CALLS_PER_SECOND MEDIAN_MS", the median being that of single calls.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import grpc.aio
import msgspec
import uvloop

from benchmarks.link_owner import ECHO_METHOD, KEYS, SECRET
from fusion_cluster.addresses import parse_addresses
from fusion_cluster.client.channel import proxy_options
from fusion_cluster.commands import Invocation
from fusion_cluster.link import Peer, dial_tcp

Operation = Callable[[int], Awaitable[object]]


@asynccontextmanager
async def link_call(port: int) -> AsyncIterator[Operation]:
    """Reads over a link; each goes over the wire, for none is kept."""
    peer = Peer(lambda: dial_tcp("127.0.0.1", port), peer_id="caller", secret=SECRET)
    await peer.connect(10)
    arguments = [msgspec.msgpack.encode([key]) for key in range(KEYS)]

    async def read(number: int) -> None:
        invocation = Invocation("Figures.get", deadline_s=time.monotonic() + 10)
        call = peer.read(invocation, arguments[number % KEYS], on_invalidated=_ignore)
        result = await call
        peer.unsubscribe(call.id)
        if not result.value:
            raise RuntimeError(f"no value: {result}")

    yield read
    await peer.close()


@asynccontextmanager
async def grpc_call(port: int) -> AsyncIterator[Operation]:
    """Unary calls on one channel."""
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address, options=proxy_options(parse_addresses(address))) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ECHO_METHOD)
        yield lambda _: call(b"\x91\x2a")


class _Answers(asyncio.Protocol):
    """The calling end of a bare TCP echo."""

    answer: asyncio.Future[bytes]
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.answer.set_result(data)


@asynccontextmanager
async def tcp_call(port: int) -> AsyncIterator[Operation]:
    """Bytes to and fro and nothing else, one after another: what network, wake-ups and event loop cost here."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(_Answers, "127.0.0.1", port)

    async def send(_number: int) -> None:
        protocol.answer = loop.create_future()
        protocol.transport.write(b"\x91\x2a" * 20)
        await protocol.answer

    yield send
    protocol.transport.close()


@asynccontextmanager
async def ray_call(port: int) -> AsyncIterator[Operation]:
    """Calls of an async actor's method; the arguments are bytes, which skip pickle."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - that is its name
    import ray

    class Echo:
        async def call(self, request: bytes) -> bytes:
            return request

    ray.init(
        address="local",  # its own, whatever other cluster runs or has left its address behind
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        configure_logging=False,
        namespace="link-benchmark",
    )
    try:
        actor: Any = ray.remote(num_cpus=1)(Echo).remote()
        await actor.call.remote(b"")
        yield lambda _: actor.call.remote(b"\x91\x2a")
    finally:
        ray.shutdown()


async def measure(operation: Operation, callers: int, seconds: float) -> tuple[float, float]:
    """Calls per second of so many callers, each making one call after another, and the median time of a call in ms."""
    times: list[float] = []
    clock = time.perf_counter
    done = 0
    began_s = clock()
    until_s = began_s + seconds

    async def one_after_another() -> None:
        last_s = clock()
        while last_s < until_s:
            await operation(len(times))
            now_s = clock()
            times.append(now_s - last_s)
            last_s = now_s

    async def repeat(number: int) -> None:
        nonlocal done
        while clock() < until_s:
            await operation(number)
            done += 1
            number += callers

    if callers == 1:
        await one_after_another()
        return len(times) / (clock() - began_s), statistics.median(times) * 1000
    await asyncio.gather(*(repeat(number) for number in range(callers)))
    took_s = clock() - began_s
    return done / took_s, callers * took_s / done * 1000


def _ignore(_id: int) -> None:
    pass


CALLS: dict[str, Callable[[int], AbstractAsyncContextManager[Operation]]] = {
    "link": link_call,
    "grpc": grpc_call,
    "ray": ray_call,
    "tcp": tcp_call,
}


async def main(kind: str, port: int) -> None:
    """Measure whenever a line says so, until there are no more."""
    loop = asyncio.get_running_loop()
    async with CALLS[kind](port) as operation:
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            callers, seconds = line.split()
            rate, median_ms = await measure(operation, int(callers), float(seconds))
            print(rate, median_ms, flush=True)


if __name__ == "__main__":
    # gRPC's callers are faster on asyncio's own loop.
    run = asyncio.run if sys.argv[1] == "grpc" else uvloop.run
    run(main(sys.argv[1], int(sys.argv[2])))
