"""The time limit of a command's run: it ends the run at the deadline, unless its commit has begun.

Invariant: while it is lifted it cancels nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final

from fusion_cluster.runtime.deadline import NO_DEADLINE


class TimeLimit(AbstractContextManager["TimeLimit"]):
    """Cancels the block, in whose task it is entered, when its time is up; the block then ends with `TimeoutError`.

    (`asyncio.timeout` does the same, but needs a new timer for each change.)

    Args:
        left_s: how long the block may take, in seconds; infinite: no limit.

    Attributes:
        is_over: the time was up while the limit was in force.
    """

    __slots__ = ("_cancelling", "_is_due", "_is_lifted", "_left_s", "_task", "_timer", "is_over")

    def __init__(self, left_s: float) -> None:
        self.is_over = False
        self._left_s = left_s
        self._is_due = False
        self._is_lifted = False
        self._task: asyncio.Task[Any] | None = None
        # How many cancellations of the task were pending when the block began.
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> TimeLimit:
        if self._left_s < NO_DEADLINE:
            self._task = task = asyncio.current_task()
            assert task is not None
            self._cancelling = task.cancelling()
            self._timer = task.get_loop().call_later(max(0.0, self._left_s), self._on_time)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        task, self._task = self._task, None
        if task is None:  # this limit has cancelled it
            task = asyncio.current_task()
            assert task is not None
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def lift(self) -> None:
        """Suspend the limit until `restore`."""
        self._is_lifted = self._timer is not None

    def restore(self) -> None:
        """Put the limit into force again.

        Raises:
            TimeoutError: the time is up, and the block went on while the limit was lifted.
        """
        self._is_lifted = False
        if self._is_due:
            self.is_over = True
            raise TimeoutError

    def _on_time(self) -> None:
        self._is_due = True
        task = self._task
        if task is not None and not self._is_lifted:
            self.is_over = True
            self._task = None
            task.cancel()


UNLIMITED: Final = TimeLimit(NO_DEADLINE)
"""No limit."""


async def within(left_s: float, ending: Awaitable[object]) -> bool:
    """Await something for a limited time; return whether it has ended.

    Args:
        left_s: the limit in seconds; infinite: no limit.
        ending: the awaitable. It is cancelled when the time is up; what it waits for may go on (a publication does).
    """
    limit = TimeLimit(left_s)
    try:
        with limit:
            await ending
    except TimeoutError:
        if not limit.is_over:
            raise
        return False
    return True
