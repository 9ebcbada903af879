"""Bounded waits for a condition: what tests use instead of sleeping.

The bound is generous, for only a test that fails comes to it, and a machine may have much to do. The longer something
takes, the less often it is asked for: who waits leaves the cores to those who work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

PATIENCE_S = 20.0


async def until(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S, what: str = "the condition") -> None:
    """Let the event loop run until `condition()` is true; fail the test after `timeout_s` seconds."""
    for pause_s in _pauses(timeout_s, what, longest_s=0.01):
        if condition():
            return
        await asyncio.sleep(pause_s)


async def until_so(
    condition: Callable[[], Awaitable[object]], *, timeout_s: float = PATIENCE_S, what: str = "it"
) -> None:
    """Ask again and again until `await condition()` is true; fail the test after `timeout_s` seconds."""
    for pause_s in _pauses(timeout_s, what, longest_s=0.05):
        if await condition():
            return
        await asyncio.sleep(pause_s)


def _pauses(timeout_s: float, what: str, *, longest_s: float) -> Iterator[float]:
    """Give the pauses between the questions, in seconds; the last question is asked after `timeout_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    pause_s = 0.002
    while loop.time() <= deadline:
        yield pause_s
        pause_s = min(1.2 * pause_s, longest_s)
    yield 0.0
    raise AssertionError(f"{what} did not come true within {timeout_s} s")
