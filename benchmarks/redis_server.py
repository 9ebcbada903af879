"""A redis-server of our own on a free loopback port, where the program is installed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0


@asynccontextmanager
async def redis_server() -> AsyncIterator[tuple[str, int] | None]:
    """Start a redis-server that keeps nothing; give its address, or None where there is no such program."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no", "--dir", folder]
        process = await asyncio.create_subprocess_exec(program, *options, stdout=DEVNULL, stderr=DEVNULL)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _until_it_listens(process, port)
            yield HOST, port
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def _until_it_listens(process: Process, port: int) -> None:
    while True:
        if process.returncode is not None:
            raise RuntimeError(f"redis-server ended at once with code {process.returncode}")
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return
