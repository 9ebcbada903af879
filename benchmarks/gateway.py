"""The gateway against a bare grpc.aio echo server, each in a process of its own, measured in turns.

- `Call` of a cached key against a unary echo: what the gateway adds to gRPC;
- reads over a `Session` stream, each of which goes over the wire, against the same unary echo: what multiplexing gains;
- updates of `Watch` streams whose values change all the time, against streams that an echo server fills item by item.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import msgspec

from benchmarks.discovery import Say
from benchmarks.gateway_server import KEYS, WATCHED_KEYS
from benchmarks.rounds import Rounds
from benchmarks.row import Row, at_least
from fusion_cluster.addresses import parse_addresses
from fusion_cluster.client.channel import SessionStreams, open_channel
from fusion_cluster.commands import Invocation
from fusion_cluster.link.peer import Peer
from fusion_cluster.v1 import gateway_pb2

FULL, QUICK = Rounds(count=10, round_s=0.3), Rounds(count=1, round_s=0.05)
CALLERS = (1, 50)
SESSION_CALLERS = (1, 50, 500)
WATCHERS = 50

GATEWAY = "/fusion_cluster.v1.Gateway"

Operation = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Servers:
    """Channels to the two servers."""

    gateway: grpc.aio.Channel
    echo: grpc.aio.Channel


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    gateway, gateway_address = await _start("gateway")
    echo, echo_address = await _start("echo")
    channels = Servers(open_channel(parse_addresses(gateway_address)), open_channel(parse_addresses(echo_address)))
    try:
        yield channels
    finally:
        for channel in (channels.gateway, channels.echo):
            await channel.close()
        for process in (gateway, echo):
            await _stop(process)


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure the gateway and its references."""
    rounds = QUICK if quick else FULL
    async with servers() as channels:
        for callers in CALLERS:
            say(f"Call, {callers} callers")
            rate, echo = await call_rates(channels, callers, rounds)
            case = f"Call, cached key, {_callers(callers)}"
            yield Row("gateway", case, rate, "calls/s", f"unary echo, {_callers(callers)}", echo, at_least(0.7))
        for callers in SESSION_CALLERS:
            say(f"Session, {callers} callers")
            rate, echo = await session_rates(channels, callers, rounds)
            case = f"Session, {_callers(callers)}"
            goal = at_least(8) if callers == 50 else None
            yield Row("gateway", case, rate, "calls/s", f"unary echo, {_callers(callers)}", echo, goal)
        say("Watch")
        rate, items = await watch_rates(channels, rounds)
        case = f"Watch, {WATCHERS} watchers of {WATCHED_KEYS} keys"
        yield Row("gateway", case, rate, "updates/s", f"echo streams, item by item, {WATCHERS} streams", items)


async def call_rates(channels: Servers, callers: int, rounds: Rounds) -> tuple[float, float]:
    """Calls per second of `Call` on one cached key, and of a unary echo of the same reply."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channels.gateway.unary_unary(f"{GATEWAY}/Call")
    request = _call_request(3).SerializeToString()
    reply = await call(request)
    gateway, echo = await _in_turns([lambda _: call(request), _echo(channels, reply)], callers, rounds)
    return gateway, echo


async def session_rates(channels: Servers, callers: int, rounds: Rounds) -> tuple[float, float]:
    """Reads per second over one session, and calls per second of a unary echo."""
    streams = SessionStreams(channels.gateway)
    peer = Peer(streams.dial, peer_id="benchmark")
    await peer.connect(10.0)
    arguments = [msgspec.msgpack.encode([key]) for key in range(KEYS)]

    async def read(number: int) -> None:
        # Given up at once, so that the next read of the key goes over the wire again.
        invocation = Invocation("Figures.get", deadline_s=time.monotonic() + 10)
        call = peer.read(invocation, arguments[number % KEYS], on_invalidated=_ignore)
        await call
        peer.unsubscribe(call.id)

    try:
        for key in range(KEYS):
            await read(key)
        session, echo = await _in_turns([read, _echo(channels, arguments[0] * 8)], callers, rounds)
    finally:
        await peer.close()
        await streams.close()
    return session, echo


async def watch_rates(channels: Servers, rounds: Rounds) -> tuple[float, float]:
    """Updates per second over many `Watch` streams of values that change all the time, and items of echo streams."""
    watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channels.gateway.unary_stream(f"{GATEWAY}/Watch")
    stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channels.echo.unary_stream("/benchmarks.Echo/Stream")
    execute: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channels.gateway.unary_unary(f"{GATEWAY}/Execute")
    requests = [
        gateway_pb2.WatchRequest(call=_call_request(number % WATCHED_KEYS)).SerializeToString()
        for number in range(WATCHERS)
    ]
    updates, items = [], []
    for _ in range(rounds.count):
        turn = gateway_pb2.Payload(json=json.dumps([0, rounds.round_s + 0.4]))
        await execute(gateway_pb2.ExecuteRequest(service="Figures", method="turn", arguments=turn).SerializeToString())
        updates.append(await _received([watch(request) for request in requests], rounds.round_s))
        items.append(await _received([stream(request) for request in requests], rounds.round_s))
    return max(updates), max(items)


def _callers(count: int) -> str:
    return "one after another" if count == 1 else f"{count} callers"


def _call_request(key: int) -> gateway_pb2.CallRequest:
    return gateway_pb2.CallRequest(service="Figures", method="get", arguments=gateway_pb2.Payload(json=f"[{key}]"))


def _echo(channels: Servers, message: bytes) -> Operation:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channels.echo.unary_unary("/benchmarks.Echo/Call")
    return lambda _: call(message)


def _ignore(_id: int) -> None:
    pass


async def _in_turns(operations: Sequence[Operation], callers: int, rounds: Rounds) -> list[float]:
    """The best rate of each operation; they take turns, so that a busy machine slows all of them."""
    rates: list[list[float]] = [[] for _ in operations]
    for round_number in range(rounds.count + 1):
        for operation, measured in zip(operations, rates, strict=True):
            rate = await _rate(operation, callers, rounds.round_s)
            if round_number:  # the first is to warm up
                measured.append(rate)
    return [max(measured) for measured in rates]


async def _rate(operation: Operation, callers: int, round_s: float) -> float:
    done = 0
    began_s = time.perf_counter()
    until_s = began_s + round_s

    async def repeat(number: int) -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            await operation(number)
            done += 1
            number += callers

    await asyncio.gather(*(repeat(number) for number in range(callers)))
    return done / (time.perf_counter() - began_s)


async def _received(streams: Sequence[grpc.aio.UnaryStreamCall[bytes, bytes]], round_s: float) -> float:
    received = 0

    async def follow(stream: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
        nonlocal received
        try:
            while isinstance(await stream.read(), bytes):
                received += 1
        except (asyncio.CancelledError, grpc.aio.AioRpcError):
            return

    following = [asyncio.create_task(follow(stream)) for stream in streams]
    for _ in range(100):
        await asyncio.sleep(0.01)
        if received >= len(streams):
            break
    before, began_s = received, time.perf_counter()
    await asyncio.sleep(round_s)
    rate = (received - before) / (time.perf_counter() - began_s)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*following)
    return rate


async def _start(kind: str) -> tuple[Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.gateway_server", kind, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    if not address:
        raise RuntimeError(f"the {kind} server did not start")
    return process, address


async def _stop(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()
        await process.wait()
