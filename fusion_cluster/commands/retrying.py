"""Retries: the one way in which members, typed clients and by-name clients repeat a call until it is answered.

A call is repeated if that does no harm: a read; a command that did not run because its owner could not be reached, does
not own the key, or is full and says for how long; and a command that may have run, under the same id and marked as a
retry. Every other outcome is an answer.

Invariant: no attempt begins after the deadline. A command whose outcome is in doubt ends with an answer to a retry, or
with `CommandOutcomeUnknown`; without a doubt, a call ends with `ShardUnavailable` if the owner cannot be reached in
time, with `Overloaded` if it is full, and with `DeadlineExceeded` if it takes too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.errors import (
    CommandOutcomeUnknown,
    DeadlineExceeded,
    FusionError,
    NotOwner,
    Overloaded,
    ShardUnavailable,
)
from fusion_cluster.runtime import Runtime

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.05
"""The longest pause after the first attempt that was not answered."""

LONGEST_PAUSE_S: Final = 0.5

REASONS_TO_ASK_AGAIN: Final = (CommandOutcomeUnknown, ShardUnavailable, NotOwner, Overloaded, DeadlineExceeded)
"""The errors of an attempt that may be followed by another; all others are answers."""

_EARLY_S: Final = 0.05
"""How much earlier a deadline may pass on the other side's clock."""


class Retries:
    """The failed attempts of one call. It is made when the first attempt has failed: most calls need none.

    >>> retries = None
    >>> while True:
    ...     try:
    ...         return await attempt(invocation)
    ...     except REASONS_TO_ASK_AGAIN as error:
    ...         retries = retries or Retries(runtime)
    ...         invocation = await retries.after(error, invocation)

    Args:
        runtime: its clock gives the deadline.
        pause: waits for a number of seconds, or less if there is news. It may raise ShardUnavailable if no owner can
            be reached any more.
        latest_deadline_s: gives the present deadline, which may have become later; None: it is the invocation's.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        latest_deadline_s: Callable[[], float] | None = None,
    ) -> None:
        self._clock_s = runtime.clock.monotonic
        self._pause = pause
        self._latest_deadline_s = latest_deadline_s
        self._doubt: CommandOutcomeUnknown | None = None
        self._backoff = runtime.backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)

    async def after(self, error: FusionError, invocation: Invocation) -> Invocation:
        """Wait until the call may be made again.

        Args:
            error: one of `REASONS_TO_ASK_AGAIN`, of an attempt.
            invocation: the attempt.

        Returns:
            The next attempt.

        Raises:
            Exception: the call must not be made again: the error, or one that says more about it.
        """
        latest_deadline_s = self._latest_deadline_s
        if isinstance(error, CommandOutcomeUnknown):
            if not error.is_transient or invocation.kind == "compute":
                raise error
            self._doubt = error
            invocation = invocation.replace(is_retry=True)
        elif isinstance(error, Overloaded):
            if error.retry_after_s is None:
                raise error  # trying again does not help
        elif isinstance(error, DeadlineExceeded):
            # Unless it is this call's own deadline, and a caller with more time has joined meanwhile.
            is_own = self._clock_s() >= invocation.deadline_s - _EARLY_S
            if not is_own or latest_deadline_s is None or latest_deadline_s() <= invocation.deadline_s:
                raise error
        if latest_deadline_s is not None:
            invocation = invocation.replace(deadline_s=latest_deadline_s())
        pause_s = self._backoff.next_s(least_s=error.retry_after_s or 0.0)
        left_s = invocation.deadline_s - self._clock_s()
        if pause_s >= left_s:
            if error.retry_after_s is not None or left_s <= 0:
                raise _last_word(self._doubt, error) from error.__cause__
            pause_s = left_s  # there may be news meanwhile
        try:
            await self._pause(pause_s)
        except ShardUnavailable as no_way:
            raise _last_word(self._doubt, no_way) from None
        if self._clock_s() >= invocation.deadline_s:
            raise _last_word(self._doubt, error) from error.__cause__
        return invocation


async def until_answered(
    invocation: Invocation,
    attempt: Callable[[Invocation], Awaitable[T]],
    *,
    runtime: Runtime,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    latest_deadline_s: Callable[[], float] | None = None,
) -> T:
    """Make a call again and again until it is answered or its deadline has passed.

    Args:
        invocation: the call; a command has an id.
        attempt: makes the call once. Its error, from the link or from the other side, decides what follows.
        runtime: see `Retries`.
        pause: see `Retries`.
        latest_deadline_s: see `Retries`.

    Raises:
        CommandOutcomeUnknown: the command may have run, and its outcome was not found out in time.
        CommandNotRecorded: the command may have run, and its outcome cannot be found out.
        ShardUnavailable: no owner could be reached in time; the command did not run.
        Overloaded: the owner had no room in time; the command did not run.
        DeadlineExceeded: the call was taking too long and was given up; nothing is committed.
        Exception: the answer.
    """
    retries: Retries | None = None
    while True:
        try:
            return await attempt(invocation)
        except REASONS_TO_ASK_AGAIN as error:
            retries = retries or Retries(runtime, pause=pause, latest_deadline_s=latest_deadline_s)
            invocation = await retries.after(error, invocation)


def _last_word(doubt: CommandOutcomeUnknown | None, failure: FusionError) -> FusionError:
    if doubt is not None:
        return doubt
    if isinstance(failure, NotOwner):
        return ShardUnavailable("the key was moving from shard to shard for as long as it was tried", retry_after_s=1.0)
    return failure
