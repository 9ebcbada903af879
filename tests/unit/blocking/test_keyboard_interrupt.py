"""Ctrl-C gets through to a caller that waits, ends what it waited for, and leaves the host in order."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 30.0
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("what", ["read", "command", "changes"])
async def test_a_caller_that_waits_can_be_interrupted(what: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.unit.blocking.interrupted_process", what),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert (await process.stdout.readline()).startswith(b"waiting")
            process.send_signal(signal.SIGINT)
            output = (await process.stdout.read()).decode()
            assert await process.wait() == 0, output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output == "interrupted 0\n"
