"""The time limit of a command's run: it ends the run at the deadline, unless its commit has begun.

Invariant: while it is lifted it cancels nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from typing import Final

from fusion_cluster.runtime.deadline import NO_DEADLINE


class TimeLimit(AbstractAsyncContextManager["TimeLimit"]):
    """Cancels the block, in whose task it is entered, when its time is up; the block then ends with `TimeoutError`.

    Args:
        left_s: how long the block may take, in seconds; infinite: no limit.
    """

    __slots__ = ("_timeout", "_when_s")

    def __init__(self, left_s: float) -> None:
        self._timeout = None if left_s == NO_DEADLINE else asyncio.timeout(max(0.0, left_s))
        self._when_s: float | None = None

    async def __aenter__(self) -> TimeLimit:
        if self._timeout is not None:
            await self._timeout.__aenter__()
            self._when_s = self._timeout.when()
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._timeout is not None:
            await self._timeout.__aexit__(*raised)  # type: ignore[arg-type]

    @property
    def is_over(self) -> bool:
        """Whether the time was up while the limit was in force."""
        return self._timeout is not None and self._timeout.expired()

    def lift(self) -> None:
        """Let the block take as long as it takes, until `restore`."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(None)

    def restore(self) -> None:
        """Put the limit into force again.

        Raises:
            TimeoutError: the time was up before it was lifted, and the block has gone on all the same.
        """
        if self._timeout is None:
            return
        if self._timeout.expired():
            raise TimeoutError
        self._timeout.reschedule(self._when_s)


UNLIMITED: Final = TimeLimit(NO_DEADLINE)
"""No limit."""


async def within(left_s: float, ending: Awaitable[None]) -> bool:
    """Await what goes on by itself, at most so long; return whether it has ended.

    Args:
        ending: what to await; it goes on when the time is up.
        left_s: in seconds; infinite: as long as it takes.
    """
    limit = TimeLimit(left_s)
    try:
        async with limit:
            await ending
    except TimeoutError:
        if not limit.is_over:
            raise
        return False
    return True
