"""Processes that tests start: none outlives its test, whatever becomes of that."""

from __future__ import annotations

from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[Process]:
    """Run a command; kill it if it still runs at the end, and read what its pipes still hold, so that they are closed.

    A process that a failed test left behind would warn when it is collected: in the midst of another test, which would
    fail for it.

    Args:
        command: the program and its arguments.
        options: those of `asyncio.create_subprocess_exec`.
    """
    process = await create_subprocess_exec(*command, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
