from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.link import Peer, dial_tcp
from tests.invocations import a_read
from tests.waiting import until

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def echo_owner(*, port: int = 0, epoch: int = 1, read_lease_s: float = 3.0) -> AsyncIterator[tuple[Process, int]]:
    process = await create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.processes.echo_owner",
        str(port),
        str(epoch),
        str(read_lease_s),
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read(peer: Peer, outdated: list[int], *, timeout_s: float = 10.0) -> bytes:
    call = peer.read(a_read("Echo.same", timeout_s=timeout_s), b"x", on_invalidated=outdated.append)
    return (await call).value


async def test_a_stopped_process_is_noticed_within_a_read_lease_and_calls_fail_at_their_deadline() -> None:
    async with echo_owner(read_lease_s=0.5) as (process, port):
        peer = Peer(lambda: dial_tcp("127.0.0.1", port), peer_id="caller", secret=b"secret")
        outdated: list[int] = []
        await read(peer, outdated)
        clock = asyncio.get_running_loop().time
        stopped_at_s = clock()
        process.send_signal(signal.SIGSTOP)
        await until(lambda: outdated)
        assert clock() - stopped_at_s < 2.0
        with pytest.raises(ShardUnavailable):
            await read(peer, outdated, timeout_s=0.5)
        process.send_signal(signal.SIGCONT)
        assert await read(peer, outdated) == b"x"
        await peer.close()


async def test_a_killed_process_is_noticed_at_once_and_its_successor_serves_with_another_epoch() -> None:
    async with echo_owner(epoch=1) as (process, port):
        peer = Peer(lambda: dial_tcp("127.0.0.1", port), peer_id="caller", secret=b"secret")
        outdated: list[int] = []
        await read(peer, outdated)
        process.kill()
        await until(lambda: outdated)
        assert peer.epoch == 1
    async with echo_owner(port=port, epoch=2):
        assert await read(peer, outdated) == b"x"
        assert peer.epoch == 2
        await peer.close()
    assert len(outdated) == 2
