"""Runs a command where its key is owned: once for each command id, for any number of calls.

A command whose id its caller has made may be a retry, so the operation log is asked first. The log also decides between
two runs of one id (by an owner that was taken for dead and by its successor): the second one cannot commit, and gets
the result of the first. A command that fails because of the database before anything is committed runs again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from fusion_cluster.commands.command import BoundCommand
from fusion_cluster.commands.command_log import CommandLog
from fusion_cluster.commands.context import CommandContext, Publisher
from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.commands.nesting import call_in_words, refuse_own_turn
from fusion_cluster.commands.outcomes import (
    NONE_OUTCOME,
    CommandResult,
    DuplicateOperation,
    OutcomeLog,
    Recorded,
    outcome_of,
    outcome_of_error,
)
from fusion_cluster.commands.reruns import Reruns
from fusion_cluster.commands.run_scope import RunScope
from fusion_cluster.commands.time_limit import UNLIMITED, TimeLimit, TimeLimits, within
from fusion_cluster.commands.turns import Turns
from fusion_cluster.errors import (
    ClusterError,
    CommandNotRecorded,
    CommandOutcomeUnknown,
    CommandResultLost,
    DatabaseUnavailable,
    DeadlineExceeded,
    FusionError,
    InvalidArgument,
    InvariantViolation,
    UsageError,
)
from fusion_cluster.runtime import Runtime
from fusion_cluster.runtime.deadline import NO_DEADLINE

logger = logging.getLogger(__name__)

TOLD_BY_LOG: Final = "the operation log"

RESULT_PATIENCE_S: Final = 5.0
"""How long after the commit to wait for a result that another process has not recorded with the commit."""

FIRST_RESULT_PAUSE_S: Final = 0.02
LONGEST_RESULT_PAUSE_S: Final = 0.25


class CommandHost(Publisher, Protocol):
    """A host that runs commands."""

    @property
    def turns(self) -> Turns:
        """The commands that run there, by key."""
        ...

    @property
    def time_limits(self) -> TimeLimits:
        """The time limits of the commands that run there."""
        ...

    @property
    def runtime(self) -> Runtime:
        """The runtime whose clock gives the deadlines."""
        ...

    @property
    def command_log(self) -> CommandLog | None:
        """The log that records them; None without a database."""
        ...


async def run_command(command: BoundCommand[..., Any], invocation: Invocation, *, host: CommandHost) -> CommandResult:
    """Run a command here in its key's turn, and return its result once all its publications have ended.

    When it is cancelled, or its caller's time is up, it is rolled back unless its commit has begun. Committed changes
    are published in any case, also when the caller has left or the rest of the command fails.

    Args:
        command: the command to run.
        invocation: the call of it.
        host: the host that runs it.

    Raises:
        CircularDependencyError: it would wait for its turn until one of its callers has ended.
        InvalidArgument: the id was used for another command.
        CommandNotRecorded: it is a retry, and nothing is recorded here.
        CommandOutcomeUnknown: it is committed, but an owner of an invalidated key could not be reached in time; or it
            may be committed, and the time is up.
        CommandResultLost: it has run before, and its result is not known.
        DatabaseUnavailable, DatabaseNotWritable: nothing was committed.
        DeadlineExceeded: the time was up, and nothing is committed.
        Exception: the error that the command raised, or, if it succeeded, the error of a publication.
    """
    arguments, command_id, deadline_s = invocation.arguments, invocation.command_id, invocation.deadline_s
    log = host.command_log if command_id else None
    if invocation.is_retry and log is None:
        raise CommandNotRecorded(f"{command.name} may have run before: without a database nothing is recorded")
    limit = (
        UNLIMITED
        if deadline_s == NO_DEADLINE
        else TimeLimit(deadline_s - host.runtime.clock.monotonic(), host.time_limits)
    )
    context = CommandContext(
        invocation,
        command.hosting,
        barrier=command.method.barrier,
        peer_id=host.peer_id,
        command_id=command_id or host.runtime.entropy.new_id(),
        is_repeatable=bool(command_id),
        fingerprint=command.method.fingerprint,
        outcome=NONE_OUTCOME if command.method.returns_nothing else None,
        function=command.written,
        limit=limit,
    )
    turn_key = command.method.turn_key(arguments)
    if invocation.callers:
        text = call_in_words(command.name, arguments)
        refuse_own_turn(host.turns.holder_id(turn_key), text, invocation.callers)
    run = _Run(command, invocation, context, host, log)
    with RunScope(context, deadline_s):
        try:
            try:
                with limit:
                    turn = host.turns.take(turn_key, context.command_id)
                    try:
                        if turn is not None:
                            await turn
                        done = await run.result_or_record()
                    finally:
                        host.turns.give_back(turn_key, turn)
                    result = done if isinstance(done, CommandResult) else await run.replay(*done)
            except TimeoutError:
                if not limit.is_over:
                    raise
                raise run.late() from None
            if context.has_published:
                await run.published(deadline_s)
        except Exception:
            if context.has_published:
                await within(_left_s(deadline_s, host), _published_quietly(context), host.time_limits)
            raise
        return result


def _left_s(deadline_s: float, host: CommandHost) -> float:
    return NO_DEADLINE if deadline_s == NO_DEADLINE else deadline_s - host.runtime.clock.monotonic()


class _Run:
    """One run of a command, in its turn.

    Args:
        command: the command.
        invocation: the call of it.
        context: the context of the run.
        host: the host that runs it.
        log: the log that records it for retries; None: there will be no retries, or there is no log.
    """

    def __init__(
        self,
        command: BoundCommand[..., Any],
        invocation: Invocation,
        context: CommandContext,
        host: CommandHost,
        log: CommandLog | None,
    ) -> None:
        self._command = command
        self._arguments = invocation.arguments
        self._context = context
        self._host = host
        self._log = log
        # It may have run before, and the log has not answered that it did not.
        self._is_in_question = invocation.is_retry
        self._is_recorded = False

    def late(self) -> FusionError:
        """Return the error for a caller whose time is up."""
        context = self._context
        if context.committed or context.has_published or self._is_recorded:
            return CommandOutcomeUnknown(
                f"{context.name} did not end in the time that its caller had: it has taken effect"
            )
        if self._is_in_question:
            return CommandOutcomeUnknown(f"{context.name} did not end in time, and may have run before")
        return DeadlineExceeded(f"{context.name} did not end in the time that its caller had: nothing is committed")

    async def result_or_record(self) -> CommandResult | tuple[Recorded, OutcomeLog]:
        """Run it; or return the record of an earlier run, and the log that has it."""
        reruns: Reruns | None = None
        log: OutcomeLog | None = self._log
        is_refused = False
        while True:
            self._context.limit.restore()
            try:
                recorded = None if log is None else await log.find(self._context.command_id)
                if recorded is None and is_refused:
                    raise InvariantViolation(f"{self._context.name}: the log refuses an id that it does not have")
                self._is_in_question = False
                if recorded is None:
                    return CommandResult(await self._run())
            except DuplicateOperation as refusal:
                log, is_refused, self._is_in_question = refusal.log, True, True
            except Exception as error:
                if self._context.committed:
                    raise
                reruns = reruns or Reruns(self._command.name, runtime=self._host.runtime)
                log = await self._pause_after(error, reruns) or log
            else:
                assert log is not None
                self._is_recorded = True
                return recorded, log

    async def _pause_after(self, error: Exception, reruns: Reruns) -> OutcomeLog | None:
        """Wait until the command can be looked up, and perhaps run, again; return the log that has it, if known.

        Raises:
            Exception: it must not run again: the error, or one that says more about it.
        """
        try:
            await reruns.pause_after(error)
        except DatabaseUnavailable as failure:
            if self._is_in_question:
                raise CommandOutcomeUnknown(
                    f"{self._context.name} may have run before: {failure.message}", retry_after_s=1.0
                ) from failure
            raise
        except Exception:
            # Another run of the same id may have been faster, and its rows may have caused the failure.
            log = await self._log_with_record(error) if self._context.is_repeatable else None
            if log is None:
                raise
            return log
        return None

    async def _log_with_record(self, error: Exception) -> OutcomeLog | None:
        try:
            for log in {self._log, *self._context.logs}:
                if log is not None and await log.find(self._context.command_id) is not None:
                    return log
        except InvalidArgument:
            return None
        except Exception:
            logger.debug("it is not known whether %s is recorded", self._context.command_id, exc_info=True)
            raise CommandOutcomeUnknown(
                f"{self._context.name} has failed, and the database cannot tell whether another run of it has succeeded"
            ) from error
        return None

    async def _run(self) -> Any:
        try:
            result = await self._command.body(self._arguments)
        except Exception as error:
            if self._context.is_repeatable and self._context.committed and not self._context.is_in_doubt:
                await self._record(outcome_of_error(error))
            raise
        self._context.limit.lift()
        if self._context.is_repeatable and (self._log is not None or self._context.committed):
            await self._record(self._outcome_of(result))
        return result

    def _outcome_of(self, result: Any) -> bytes:
        try:
            return outcome_of(result)
        except UsageError as error:  # a caller in another process gets the same error
            logger.warning("the result of %s cannot be recorded", self._context.name, exc_info=True)
            return outcome_of_error(CommandResultLost(f"{self._context.name} has run, but {error.message}"))

    async def _record(self, outcome: bytes) -> None:
        """Record the command's outcome, unless its operation has done so; if that fails, a retry cannot get it.

        Raises:
            DuplicateOperation: it had no operation, and another run was faster.
        """
        context = self._context
        for log, recorded in list(context.committed.items()):
            if recorded != outcome:
                await self._quietly(log.record_outcome(context.command_id, outcome))
        if self._log is not None and self._log not in context.committed:
            await self._quietly(self._log.write_command(context, outcome))

    async def _quietly(self, recording: Coroutine[Any, Any, None]) -> None:
        """Await a recording and log its error.

        The command itself is done: a failure here must not make it run again, or fail.
        """
        try:
            await recording
        except DuplicateOperation:
            raise
        except Exception:
            logger.warning("the outcome of %s could not be recorded", self._context.name, exc_info=True)

    async def published(self, deadline_s: float) -> None:
        """Wait for all publications of the command.

        Raises:
            CommandOutcomeUnknown: an owner could not be reached in time.
            Exception: the first error of a publication.
        """
        context = self._context
        try:
            if not context.is_all_published:
                ending = context.published()
                if not await within(_left_s(deadline_s, self._host), ending, self._host.time_limits):
                    raise CommandOutcomeUnknown(
                        f"{context.name} is committed, but was not everywhere confirmed in time"
                    )
        except ClusterError as error:
            raise CommandOutcomeUnknown(
                f"{context.name} is committed, but not everywhere confirmed: {error.message}",
                retry_after_s=error.retry_after_s,
            ) from error

    async def replay(self, recorded: Recorded, log: OutcomeLog) -> CommandResult:
        """Return an earlier run's result, and publish its invalidations again: its process may have died before it did.

        The turn is over by then: other commands of the key do not wait for another process's result.
        """
        context = self._context
        recorded.check(self._command.method, context.fingerprint or self._command.method.fingerprint(self._arguments))
        keys = self._host.keys_of(recorded.keys, TOLD_BY_LOG)
        if keys:
            context.add(self._host.publish(keys, context.barrier, context.command_id))
        return (await self._ended(recorded, log)).replay(self._command.method)

    async def _ended(self, recorded: Recorded, log: OutcomeLog) -> Recorded:
        """Return the record once its result is recorded; if that takes too long, without the result.

        A run in another process may have committed and still be running. A run in this process is over: it had its
        turn.

        Raises:
            CommandOutcomeUnknown: the database does not answer now.
        """
        left_s = min(recorded.committed_at + RESULT_PATIENCE_S - self._host.runtime.clock.wall(), RESULT_PATIENCE_S)
        pause_s = FIRST_RESULT_PAUSE_S
        while recorded.outcome is None and recorded.host not in ("", self._host.peer_id) and left_s > 0:
            await asyncio.sleep(pause_s)
            left_s -= pause_s
            pause_s = min(2 * pause_s, LONGEST_RESULT_PAUSE_S)
            try:
                recorded = await log.find(self._context.command_id) or recorded
            except Exception as error:
                raise CommandOutcomeUnknown(
                    f"{self._context.name} has run, but its result cannot be looked up", retry_after_s=1.0
                ) from error
        return recorded


async def _published_quietly(context: CommandContext) -> None:
    """Wait for the publications of a command that failed after a commit: it has changed data all the same."""
    try:
        await context.published()
    except Exception:
        logger.warning("%s failed, and so did a publication of its committed changes", context.name, exc_info=True)
