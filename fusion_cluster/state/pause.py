"""A wait that somebody else may end before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


class Pause:
    """A wait of one task that others may end early. Used again and again, by one task at a time.

    Args:
        min_s: how long, from its beginning, it cannot be ended by others; it may end by itself before.
    """

    __slots__ = ("_earliest_s", "_min_s", "_timeout")

    def __init__(self, *, min_s: float = 0.0) -> None:
        self._min_s = min_s
        self._earliest_s = 0.0
        self._timeout: asyncio.Timeout | None = None

    async def hold(self, wait: Awaitable[None], *, is_ending: bool = False) -> None:
        """Await `wait`, which is cancelled when the pause is ended before.

        Args:
            wait: what to wait for; its errors are raised.
            is_ending: begin as if `end` had been called already.
        """
        self._earliest_s = asyncio.get_running_loop().time() + self._min_s
        timeout = asyncio.timeout_at(self._earliest_s if is_ending else None)
        try:
            async with timeout:
                self._timeout = timeout
                await wait
        except TimeoutError:
            if not timeout.expired():
                raise
        finally:
            self._timeout = None

    def end(self) -> None:
        """End the wait in progress, as soon as its minimum is over. Without effect if there is none."""
        timeout = self._timeout
        if timeout is not None and not timeout.expired():
            timeout.reschedule(max(self._earliest_s, asyncio.get_running_loop().time()))
