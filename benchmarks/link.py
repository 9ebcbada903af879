"""Calls over a TCP link to another process, against gRPC unary calls and calls of a Ray actor, measured in turns.

Caller and owner are processes of their own, on uvloop (but for gRPC's caller, which is faster without). The owner
answers at once, or from a real graph (routing and argument checks included). Every read goes over the wire: its
subscription is given up as soon as its result is there.
"""

from __future__ import annotations

import importlib.util
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.discovery import Say
from benchmarks.rounds import Rounds
from benchmarks.row import Row, at_least, value_at_most

# What is measured, and the calling and the answering process for it.
PAIRS = (("link", "link", "echo"), ("graph", "link", "graph"), ("grpc", "grpc", "grpc"), ("tcp", "tcp", "tcp"))
CALLERS = (1, 50, 500)
FULL, QUICK = Rounds(count=5, round_s=0.6), Rounds(count=1, round_s=0.05)


@dataclass(frozen=True)
class Measured:
    """The best of some rounds.

    Attributes:
        rate: calls per second.
        median_ms: of one call.
    """

    rate: float
    median_ms: float


class Caller:
    """A calling process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def measure(self, callers: int, round_s: float) -> Measured:
        """One round."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{callers} {round_s}\n".encode())
        rate, median_ms = (await _line(self._process)).split()
        return Measured(float(rate), float(median_ms))


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Measure the link and its references."""
    rounds = QUICK if quick else FULL
    async with AsyncExitStack() as stack:
        callers: dict[str, Caller] = {}
        for kind, caller, owner in PAIRS:
            say(f"starting {kind}")
            port = await stack.enter_async_context(_owner(owner))
            callers[kind] = await stack.enter_async_context(_caller(caller, port))
        if importlib.util.find_spec("ray") is not None:
            say("starting Ray")
            callers["ray"] = await stack.enter_async_context(_caller("ray", "0"))
        for count in CALLERS:
            say(f"{count} callers")
            if count > 1:
                callers.pop("tcp", None)
            measured = await _in_turns(callers, count, rounds)
            for row in _rows(count, measured):
                yield row


def _rows(count: int, measured: dict[str, Measured]) -> list[Row]:
    link, graph, grpc = measured["link"], measured["graph"], measured["grpc"]
    ray = measured.get("ray")
    if count == 1:
        label = "one after another"
        case = f"link call, {label}"
        goal = value_at_most(0.05)
        return [
            Row("link", case, link.median_ms, "ms", f"gRPC unary, {label}", grpc.median_ms, goal),
            Row("link", case, link.median_ms, "ms", f"Ray actor call, {label}", ray.median_ms if ray else None),
            Row("link", case, link.median_ms, "ms", f"bare TCP echo, {label}", measured["tcp"].median_ms),
            Row("link", f"{case}, a graph answers", graph.median_ms, "ms", f"gRPC unary, {label}", grpc.median_ms),
        ]
    label = f"{count} callers"
    case = f"link calls, {label}"
    fast = at_least(20) if count == 50 else None
    return [
        Row("link", case, link.rate, "calls/s", f"gRPC unary, {label}", grpc.rate, fast),
        Row("link", case, link.rate, "calls/s", f"Ray actor calls, {label}", ray.rate if ray else None),
        Row("link", f"{case}, a graph answers", graph.rate, "calls/s", f"gRPC unary, {label}", grpc.rate),
    ]


async def _in_turns(callers: dict[str, Caller], count: int, rounds: Rounds) -> dict[str, Measured]:
    """The best round of each; they take turns, so that a busy machine slows all of them."""
    results: dict[str, list[Measured]] = {kind: [] for kind in callers}
    for number in range(rounds.count + 1):
        for kind, caller in callers.items():
            measured = await caller.measure(count, rounds.round_s)
            if number:  # the first is to warm up
                results[kind].append(measured)
    return {
        kind: Measured(max(m.rate for m in measured), min(m.median_ms for m in measured))
        for kind, measured in results.items()
    }


@asynccontextmanager
async def _owner(kind: str) -> AsyncIterator[str]:
    async with _process("benchmarks.link_owner", kind) as process:
        yield await _line(process)


@asynccontextmanager
async def _caller(kind: str, port: str) -> AsyncIterator[Caller]:
    async with _process("benchmarks.link_caller", kind, port) as process:
        await _line(process)
        yield Caller(process)


@asynccontextmanager
async def _process(module: str, *arguments: str) -> AsyncIterator[Process]:
    process = await create_subprocess_exec(sys.executable, "-m", module, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await process.wait()
        except BaseException:
            process.kill()
            raise


async def _line(process: Process) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    if not line:
        raise RuntimeError("a process of the benchmark has ended early")
    return line
