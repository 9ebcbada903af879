"""Retries: the one loop in which members, typed clients and by-name clients repeat a call until it is answered.

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

_EARLY_S: Final = 0.05
"""How much earlier a deadline may pass on the other side's clock."""


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
        runtime: its clock gives the deadline.
        pause: waits for a number of seconds, or less if there is news. It may raise ShardUnavailable: there is no way
            left.
        latest_deadline_s: gives the present deadline, which may have become later; None: it is the invocation's.

    Raises:
        CommandOutcomeUnknown: the command may have run, and its outcome was not found out in time.
        CommandNotRecorded: the command may have run, and its outcome cannot be found out.
        ShardUnavailable: no owner could be reached in time; the command did not run.
        Overloaded: the owner had no room in time; the command did not run.
        DeadlineExceeded: the call was taking too long and was given up; nothing is committed.
        Exception: the answer.
    """
    clock_s = runtime.clock.monotonic
    doubt: CommandOutcomeUnknown | None = None
    failure: FusionError
    backoff = None
    while True:
        try:
            return await attempt(invocation)
        except CommandOutcomeUnknown as error:
            if not error.is_transient or invocation.kind == "compute":
                raise
            doubt = failure = error
            invocation = invocation.replace(is_retry=True)
        except (ShardUnavailable, NotOwner, Overloaded) as error:
            if isinstance(error, Overloaded) and error.retry_after_s is None:
                raise  # trying again does not help
            failure = error
        except DeadlineExceeded as error:
            # Unless it is this call's own deadline, and a caller with more time has joined meanwhile.
            is_own = clock_s() >= invocation.deadline_s - _EARLY_S
            if not is_own or latest_deadline_s is None or latest_deadline_s() <= invocation.deadline_s:
                raise
            failure = error
        if latest_deadline_s is not None:
            invocation = invocation.replace(deadline_s=latest_deadline_s())
        if backoff is None:
            backoff = runtime.backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        pause_s = backoff.next_s(least_s=failure.retry_after_s or 0.0)
        left_s = invocation.deadline_s - clock_s()
        if pause_s >= left_s:
            if failure.retry_after_s is not None or left_s <= 0:
                raise _last_word(doubt, failure) from failure.__cause__
            pause_s = left_s  # there may be news meanwhile
        try:
            await pause(pause_s)
        except ShardUnavailable as error:
            raise _last_word(doubt, error) from None
        if clock_s() >= invocation.deadline_s:
            raise _last_word(doubt, failure) from failure.__cause__


def _last_word(doubt: CommandOutcomeUnknown | None, failure: FusionError) -> FusionError:
    if doubt is not None:
        return doubt
    if isinstance(failure, NotOwner):
        return ShardUnavailable("the key was moving from shard to shard for as long as it was tried", retry_after_s=1.0)
    return failure
