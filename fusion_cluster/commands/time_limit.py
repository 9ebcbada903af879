"""The time limit of a command's run: it ends the run at the deadline, unless its commit has begun.

Invariant: while it is lifted it cancels nothing. A limit ends its block at most `PRECISION_S` late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from contextvars import Context
from types import TracebackType
from typing import Any, Final

from fusion_cluster.runtime.deadline import NO_DEADLINE

PRECISION_S: Final = 0.005
"""How much too late a limit may end a run: limits that end in the same span of this length are looked at together."""


class TimeLimits:
    """The limits of one host's runs that are in force. One timer of the event loop is enough for all of them.

    Nearly all runs end long before their limit, and a timer for each would cost more than the rest of the limit.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        # Number of a span of time -> the limits in force that end in it, at least one.
        self._due: dict[int, dict[TimeLimit, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        # The span at whose end the timer ends: no limit is due earlier.
        self._next = 0
        self._context = Context()

    def add(self, limit: TimeLimit, left_s: float, loop: asyncio.AbstractEventLoop) -> int:
        """Put a limit into force, until `discard`.

        Args:
            limit: its `on_time` is called at the end, unless it is discarded before.
            left_s: the end, in seconds from now.
            loop: the running loop.

        Returns:
            The number of the span of time in which it ends.
        """
        if loop is not self._loop:  # the limits of another are gone with it
            if self._timer is not None:
                self._timer.cancel()  # it would take the limits of this loop for its own, should the other run again
            self._loop, self._timer, self._due = loop, None, {}
        span = int((loop.time() + left_s) / PRECISION_S)
        due = self._due.get(span)
        if due is None:
            due = self._due[span] = {}
            if self._timer is None or span < self._next:
                self._start(span, loop)
        due[limit] = None
        return span

    def discard(self, limit: TimeLimit, span: int) -> None:
        """Take a limit out of force.

        Args:
            limit: as it was added.
            span: what `add` has returned.
        """
        due = self._due.get(span)
        if due is not None:
            due.pop(limit, None)
            if not due:
                del self._due[span]

    def _start(self, span: int, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = span
        self._timer = loop.call_at((span + 1) * PRECISION_S, self._on_timer, loop, context=self._context)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        ended = [limit for span in sorted(self._due) if span <= self._next for limit in self._due[span]]
        self._due = {span: due for span, due in self._due.items() if span > self._next}
        if self._due:
            self._start(min(self._due), loop)
        for limit in ended:
            limit.on_time()


class TimeLimit(AbstractContextManager["TimeLimit"]):
    """Cancels the block, in whose task it is entered, when its time is up; the block then ends with `TimeoutError`.

    (`asyncio.timeout` does the same, but needs a timer of its own, and a new one for each change.)

    Args:
        left_s: how long the block may take, in seconds; infinite: no limit.
        limits: those of the host; None: without a limit, none are needed.

    Attributes:
        is_over: the time was up while the limit was in force.
    """

    __slots__ = ("_cancelling", "_is_due", "_is_lifted", "_left_s", "_limits", "_span", "_task", "is_over")

    def __init__(self, left_s: float, limits: TimeLimits | None = None) -> None:
        self.is_over = False
        self._left_s = left_s
        self._limits = limits
        self._is_due = False
        self._is_lifted = False
        self._task: asyncio.Task[Any] | None = None
        # How many cancellations of the task were pending when the block began.
        self._cancelling = 0
        # The number of the span of time in which it ends; None: there is no limit.
        self._span: int | None = None

    def __enter__(self) -> TimeLimit:
        if self._limits is not None and self._left_s < NO_DEADLINE:
            self._task = task = asyncio.current_task()
            assert task is not None
            self._cancelling = task.cancelling()
            self._span = self._limits.add(self, self._left_s, task.get_loop())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._limits is None or self._span is None:
            return
        self._limits.discard(self, self._span)
        task, self._task = self._task, None
        if task is None:  # this limit has cancelled it
            task = asyncio.current_task()
            assert task is not None
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def lift(self) -> None:
        """Suspend the limit until `restore`."""
        self._is_lifted = self._span is not None

    def restore(self) -> None:
        """Put the limit into force again.

        Raises:
            TimeoutError: the time is up, and the block went on while the limit was lifted.
        """
        self._is_lifted = False
        if self._is_due:
            self.is_over = True
            raise TimeoutError

    def on_time(self) -> None:
        """End the block, unless the limit is lifted: its time is up."""
        self._is_due = True
        task = self._task
        if task is not None and not self._is_lifted:
            self.is_over = True
            self._task = None
            task.cancel()


UNLIMITED: Final = TimeLimit(NO_DEADLINE)
"""No limit."""


async def within(left_s: float, ending: Awaitable[object], limits: TimeLimits) -> bool:
    """Await something for a limited time; return whether it has ended.

    Args:
        left_s: the limit in seconds; infinite: no limit.
        ending: the awaitable. It is cancelled when the time is up; what it waits for may go on (a publication does).
        limits: those of the host.
    """
    limit = TimeLimit(left_s, limits)
    try:
        with limit:
            await ending
    except TimeoutError:
        if not limit.is_over:
            raise
        return False
    return True
