"""B.1 for a process that is stopped: what it serves first when it goes on is not what was changed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fusion_cluster.graph.core.hot_path import IS_NATIVE
from fusion_cluster.link import dial_tcp
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_router.entrances import LinkEntrance
from fusion_router.gateway import GatewayEntrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from tests.apps.sheet import Cells, app, fresh_store
from tests.processes.sleepy_reader import CELL, SECRET, WAYS

ROOT = Path(__file__).parents[2]
READ_LEASE_S = 0.5


class Shard:
    """The one shard of a cluster, in this process, served over TCP and by a gateway of its own."""

    def __init__(self) -> None:
        self.host = ClusterHost(
            app, dial=lambda at: dial_tcp(at.host, at.port), peer_id="shard", secret=SECRET, shard_id=0, epoch=1,
            read_lease_s=READ_LEASE_S,
        )  # fmt: skip
        self.cells = self.host.service(Cells)
        self.addresses: dict[str, str] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Shard]:
        links = LinkEntrance(self.host, secret=SECRET)
        clients = GatewayEntrance(self.host, address="127.0.0.1:0")
        async with Member(self.host, entrances=[links, clients], grace_s=0.2) as member:
            self.addresses = {"link": member.address, "client": clients.gateway.address}
            host, _, port = member.address.rpartition(":")
            self.host.set_slot_map(SlotMap.even([0]).with_shard(ShardAddress(0, host, int(port), 1)))
            yield self


class Reader:
    """`tests.processes.sleepy_reader`, which can be stopped."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def answer(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            return (await self.process.stdout.readline()).decode().strip()

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        yield
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def reader(kind: str, address: str, *, path: str = "") -> AsyncIterator[Reader]:
    environment = {**os.environ, "FUSION_PURE_PYTHON": "1"} if path == "pure Python" else None
    process = await create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.processes.sleepy_reader",
        kind,
        address,
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
        env=environment,
    )
    try:
        yield Reader(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def shard() -> AsyncIterator[Shard]:
    fresh_store()
    async with Shard().serving() as shard:
        yield shard


async def put_while_stopped(shard: Shard, stopped: Reader, value: int, first_question: str) -> float:
    """Change the cell while the reader is stopped, and let it answer a question when it goes on.

    Returns:
        How long the command took, in seconds.
    """
    loop = asyncio.get_running_loop()
    async with stopped.stopped():
        began_s = loop.time()
        await shard.cells.put(CELL, value)
        took_s = loop.time() - began_s
        stopped.ask(first_question)
    return took_s


@pytest.mark.parametrize("way", WAYS)
async def test_the_first_read_of_a_reader_that_was_stopped_is_not_old(shard: Shard, way: str) -> None:
    async with reader("link", shard.addresses["link"]) as stopped:
        assert await stopped.answer() == "0 0"
        took_s = await put_while_stopped(shard, stopped, 5, way)
        assert await stopped.answer() == "5"
        assert READ_LEASE_S / 2 < took_s < 10 * READ_LEASE_S


@pytest.mark.parametrize("path", ["C", "pure Python"])
@pytest.mark.parametrize("kind", ["link", "client"])
async def test_that_holds_over_links_and_for_clients_on_both_paths_of_the_graph(
    shard: Shard, kind: str, path: str
) -> None:
    if path == "C" and not IS_NATIVE:
        pytest.skip("the hot path in C is not there, or not wanted")
    async with reader(kind, shard.addresses[kind], path=path) as stopped:
        assert await stopped.answer() == "0 0"
        for value in ("5", "6"):
            await put_while_stopped(shard, stopped, int(value), "get")
            assert await stopped.answer() == value


async def test_without_the_fence_it_would_be_old(shard: Shard) -> None:
    """What the tests above would see if nothing were done: so they can fail."""
    async with reader("link", shard.addresses["link"]) as stopped:
        assert await stopped.answer() == "0 0"
        stopped.ask("without a fence")
        assert await stopped.answer() == "none"
        await put_while_stopped(shard, stopped, 5, "get")
        assert await stopped.answer() == "0"
        stopped.ask("peek")
        assert await stopped.answer() == "0"


async def test_a_reader_whose_loop_is_starved_serves_nothing_past_its_lease_either(shard: Shard) -> None:
    async with reader("link", shard.addresses["link"]) as starved:
        assert await starved.answer() == "0 0"
        await shard.cells.put(CELL, 5)  # it does not turn, so this takes a lease
        starved.ask("get")
        assert await starved.answer() == "5"
