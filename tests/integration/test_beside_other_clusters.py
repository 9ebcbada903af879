"""Whatever of ours starts Ray starts its own, beside a foreign cluster that runs and the remains of a dead one.

The foreign cluster is that of the test session: processes started here know nothing of it but what Ray finds by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fusion_cluster.cli.main import FAILED, MISUSED, OK
from tests.apps.greetings import NAME_VARIABLE
from tests.processes.started import running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

APP = f"greetings-{os.getpid()}"
CLI = [sys.executable, "-m", "fusion_cluster.cli"]
WAIT_S = 120

JOINING = """
import asyncio
from tests.apps.greetings import Greetings, app

async def main():
    async with app.cluster() as cluster:
        print(await cluster.service(Greetings).hello("driver"))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def remains() -> Iterator[dict[str, str]]:
    """Environment of a machine on which a Ray cluster has died and left its address."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # not tmp_path: the paths of sockets have to be short
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"127.0.0.1:{server.getsockname()[1]}"
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(dead)
    here = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    yield {**here, "RAY_TMPDIR": str(folder), NAME_VARIABLE: APP}
    shutil.rmtree(folder, ignore_errors=True)


async def line_with(process: Process, wanted: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while line := (await process.stdout.readline()).decode():
            if wanted in line:
                return line
    raise AssertionError(f"it ended without {wanted!r}")


async def ended(environment: dict[str, str], *command: str) -> tuple[int | None, str, str]:
    async with running(*command, env=environment, stdout=PIPE, stderr=PIPE) as process:
        out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def served(ray_cluster: str, remains: dict[str, str]) -> AsyncIterator[tuple[Process, str]]:
    """`fusion-cluster serve`, and the address of its gateway."""
    command = [*CLI, "serve", "tests.apps.greetings:app", "--shards", "1", "--grpc-port", "0"]
    async with running(*command, env=remains, stdout=PIPE, stderr=PIPE) as process:
        line = await line_with(process, f"serving {APP}")
        yield process, line.split()[-1]
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), WAIT_S)


async def test_an_app_is_served_found_and_stopped(
    served: tuple[Process, str], ray_cluster: str, remains: dict[str, str]
) -> None:
    process, address = served
    (code, out, err), joined = await asyncio.gather(
        ended(remains, *CLI, "status", "--app", APP, "--timeout", "60"), ended(remains, sys.executable, "-c", JOINING)
    )
    assert (code, err) == (OK, "")
    assert APP in out
    assert address in out
    assert joined == (OK, "hello, driver\n", "")
    assert (await ended(remains, *CLI, "call", "Greetings.hello", "you", "--address", address))[1] == '"hello, you"\n'

    # The foreign cluster is taken only by those who are told to; it does not have our app.
    told = {**remains, "RAY_ADDRESS": ray_cluster}
    code, _, err = await ended(told, *CLI, "status", "--app", APP)
    assert code == FAILED
    assert f"{APP!r} does not run in the Ray cluster at {ray_cluster}" in err
    # Which of the two is joined, nobody guesses.
    code, _, err = await ended(remains, *CLI, "serve", "tests.apps.greetings:app", "--ray-address", "auto")
    assert code == MISUSED
    assert ray_cluster in err

    process.send_signal(signal.SIGTERM)
    last, trace = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert (process.returncode, trace) == (OK, b"")
    assert "stopping: calls in flight finish first\n" in last.decode()  # Ray may say more


async def test_the_benchmark_of_links_has_a_cluster_of_its_own(ray_cluster: str, remains: dict[str, str]) -> None:
    command = [sys.executable, "-m", "benchmarks.link_caller", "ray", "0"]
    async with running(*command, env=remains, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        await line_with(process, "ready")
        process.stdin.write(b"1 0.01\n")
        await line_with(process, " ")
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 0


async def test_a_status_that_hangs_is_ended_by_a_signal(remains: dict[str, str]) -> None:
    """A listener that takes connections and never answers: neither Ctrl-C nor SIGTERM waits for it."""
    for number, code in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)):
        # Each has a listener of its own: the one before may have left a second connection in the queue.
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            command = [*CLI, "status", "--ray-address", address, "--timeout", "100"]
            async with running(*command, env=remains, stdout=PIPE, stderr=PIPE) as process:
                connection, _ = await asyncio.to_thread(server.accept)
                process.send_signal(number)
                _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
                connection.close()
            assert process.returncode == code
            assert err == b""
