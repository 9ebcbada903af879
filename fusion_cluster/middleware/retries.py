"""Retries of calls that have failed for a reason that may go away by itself.

The pauses grow exponentially, with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS 2015), so that
computations that failed together do not come again together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fusion_cluster.commands.context import CommandContext, running_command
from fusion_cluster.commands.reruns import is_of_database
from fusion_cluster.errors import ClusterError, CommandError
from fusion_cluster.failures.exits import in_words, reraise_outside
from fusion_cluster.failures.failure import TransientClassifier
from fusion_cluster.failures.printing import printable
from fusion_cluster.graph import current_computation
from fusion_cluster.graph.core.hot_path import dependencies_of
from fusion_cluster.middleware.call import Call, Next
from fusion_cluster.quantities import as_count, as_finite_delay
from fusion_cluster.runtime import SYSTEM

logger = logging.getLogger(__name__)


class Retries:
    """Middleware that runs a body again when it has failed with a transient error.

    Without it, such an error is the result for `transient_error_delay`. With it, callers that wait for a computation
    wait a little longer and mostly get a value. A value leaves no trace of the errors before it.

    Retries leave out what another part retries already:

    - an error that a computation got from one of its dependencies, also if the body has raised another error from it:
      it was retried where it arose (else each level of a graph would multiply the attempts of the level beneath);
    - errors of the cluster, such as `ShardUnavailable`: the router has tried for as long as the call may take;
    - in commands, errors of the database: those commands are run again anyway;
    - event handlers: their events are delivered again.

    Commands are retried only with `commands=True`, because only their author knows what else they do besides the
    database, and only while nothing is committed. A command that another command has called is never retried: it may
    be a part of the other's transaction.

    An error with a `retry_after_s` is retried after that time; if that is more than `longest_pause_s`, it is not
    retried here. A caller that does not want to wait any longer leaves; when the last one leaves, the computation is
    cancelled, also within a pause.

    Args:
        max_attempts: how often a body runs at most, the first time included.
        first_pause_s: the longest pause after the first failure; it doubles with each further failure.
        longest_pause_s: the longest pause of all.
        commands: retry commands too.
        is_transient: decides which errors are retried; None: the app's classifier.
        random: returns a number from 0 to 1: the part of the longest pause to wait.
        sleep: waits for a number of seconds.

    Raises:
        UsageError: a number makes no sense.
    """

    def __init__(
        self,
        max_attempts: int = 3,
        *,
        first_pause_s: float = 0.1,
        longest_pause_s: float = 5.0,
        commands: bool = False,
        is_transient: TransientClassifier | None = None,
        random: Callable[[], float] = SYSTEM.entropy.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._max_attempts = as_count("max_attempts", max_attempts)
        self._first_pause_s = as_finite_delay("first_pause_s", first_pause_s)
        self._longest_pause_s = as_finite_delay("longest_pause_s", longest_pause_s)
        self._commands = commands
        self._is_transient = is_transient
        self._random = random
        self._sleep = sleep

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let the call through, several times if needed."""
        command = running_command() if call.kind == "command" else None
        if call.kind != "compute" and (command is None or call.is_nested or not self._commands):
            return await next(call)
        recorded = None if command is None else command.outcome
        for failures in range(1, self._max_attempts):
            try:
                return await next(call)
            except Exception as error:
                pause_s = self._pause_s(failures, error)
                if pause_s > self._longest_pause_s or not self._may_end_better(call, command, error):
                    raise
                logger.info("%s is tried again in %.0f ms: %s", call, 1000 * pause_s, in_words(error))
            await self._sleep(pause_s)
            if command is not None:
                command.outcome = recorded  # the outcome that the failed run has recorded was rolled back
        return await next(call)

    def _pause_s(self, failures: int, error: Exception) -> float:
        """Return how long to wait after this number of failures."""
        longest_s = min(self._longest_pause_s, self._first_pause_s * 2.0 ** min(failures - 1, 64))
        pause_s = self._random() * longest_s
        try:
            own: Any = getattr(error, "retry_after_s", None)
            return pause_s if own is None else max(pause_s, float(own))
        except BaseException as raised:  # it is not a number
            reraise_outside(raised)
            return pause_s

    def _may_end_better(self, call: Call, command: CommandContext | None, error: Exception) -> bool:
        """Return whether to retry, and to retry here."""
        if isinstance(error, ClusterError):
            return False
        if command is None:
            if _is_of_dependency(error):
                return False
        elif command.committed or isinstance(error, CommandError) or is_of_database(error):
            return False
        try:
            return (self._is_transient or call.is_transient)(error)
        except BaseException as raised:
            reraise_outside(raised)
            told = printable(raised)
            logger.error("the classifier has failed; %s counts as transient", in_words(error), exc_info=told)
            return True


def _is_of_dependency(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, is the output of a dependency of the computation."""
    node = current_computation.get()
    if node is None:
        return False
    failures = [failure for used in dependencies_of(node) if (failure := used._failure) is not None]
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if any(failure.is_in(cause) for failure in failures):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False
