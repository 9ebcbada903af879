"""Bounded waits for a condition: what tests use instead of sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], object], *, timeout_s: float = 5.0, what: str = "the condition") -> None:
    """Let the event loop run until `condition()` is true; fail the test after `timeout_s` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.002)


async def until_so(condition: Callable[[], Awaitable[object]], *, timeout_s: float = 5.0, what: str = "it") -> None:
    """Ask again and again until `await condition()` is true; fail the test after `timeout_s` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not await condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.005)
