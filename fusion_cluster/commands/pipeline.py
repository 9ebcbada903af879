"""How a command runs where its key is owned: once for each command id, whoever asks how often.

A command whose id its caller has made may be a retry, so the operation log is asked first. The log also decides where
two runs of one id meet (an owner that was taken for dead, its successor): the second one cannot commit, and is given
the result of the first. What fails for the database's sake before anything is committed is run again.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Protocol

from fusion_cluster.commands.command import BoundCommand
from fusion_cluster.commands.context import CommandContext, Publisher, current_command, is_nested
from fusion_cluster.commands.records import (
    NONE_OUTCOME,
    CommandLog,
    CommandResult,
    DuplicateOperation,
    Recorded,
    outcome_of,
    outcome_of_error,
)
from fusion_cluster.commands.reruns import Reruns
from fusion_cluster.commands.turns import Turns
from fusion_cluster.errors import (
    ClusterError,
    CommandNotRecorded,
    CommandOutcomeUnknown,
    DatabaseUnavailable,
    InvariantViolation,
    UsageError,
)
from fusion_cluster.graph.context import isolated

logger = logging.getLogger(__name__)

TOLD_BY_LOG = "the operation log"


class CommandHost(Publisher, Protocol):
    """Where commands run."""

    @property
    def turns(self) -> Turns:
        """The commands that run there, by key."""
        ...

    @property
    def command_log(self) -> CommandLog | None:
        """Where they are recorded; None: nowhere, for there is no database."""
        ...


async def run_command(
    command: BoundCommand[..., Any],
    arguments: tuple[Any, ...],
    command_id: str | None,
    *,
    host: CommandHost,
    is_retry: bool = False,
) -> CommandResult:
    """Run a command here, when it is its key's turn, and return its result once all its publications have ended.

    Cancelled, it is rolled back unless its commit has begun. What was committed is published in any case, also when the
    caller has left or the rest of the command fails.

    Args:
        command: what to run.
        arguments: its canonical arguments.
        command_id: names this run; a retry has the same. None: there will be no retry.
        host: where it runs.
        is_retry: the id was sent before.

    Raises:
        InvalidArgument: the id was used for another command.
        CommandNotRecorded: it is a retry, and nothing is recorded here.
        CommandOutcomeUnknown: it was carried out, but an owner of what it invalidated could not be reached in time.
        CommandResultLost: it was carried out before, and its result is not known.
        DatabaseUnavailable, DatabaseNotWritable: nothing was committed.
        Exception: what the command raised, or, when it succeeded, the error of a publication.
    """
    log = host.command_log if command_id else None
    if is_retry and log is None:
        raise CommandNotRecorded(f"{command.name} may have been carried out: without a database nothing is recorded")
    context = CommandContext(
        command.name,
        command_id or uuid.uuid4().hex,
        command.hosting,
        barrier=command.barrier,
        peer_id=host.peer_id,
        arguments=arguments,
        fingerprint=command.fingerprint(arguments) if log is not None else None,
        outcome=NONE_OUTCOME if command.returns_nothing else None,
    )
    tokens = current_command.set(context), is_nested.set(False)
    try:
        with isolated():
            async with host.turns.of(command.turn_key(arguments)):
                result = await _Run(command, arguments, context, host, log).result()
        try:
            await context.published()
        except ClusterError as error:
            raise CommandOutcomeUnknown(
                f"{command.name} is carried out, but not everywhere confirmed: {error.message}",
                retry_after_s=error.retry_after_s,
            ) from error
    except Exception:
        await _published_quietly(context)
        raise
    else:
        return result
    finally:
        context.is_open = False
        current_command.reset(tokens[0])
        is_nested.reset(tokens[1])


class _Run:
    """One run of a command, in its turn.

    Args:
        command: what.
        arguments: its canonical arguments.
        context: of the run.
        host: where it runs.
        log: where it is recorded for retries; None: there will be none.
    """

    def __init__(
        self,
        command: BoundCommand[..., Any],
        arguments: tuple[Any, ...],
        context: CommandContext,
        host: CommandHost,
        log: CommandLog | None,
    ) -> None:
        self._command = command
        self._arguments = arguments
        self._context = context
        self._host = host
        self._log = log

    async def result(self) -> CommandResult:
        """Run it, or give the result of an earlier run."""
        reruns = Reruns(self._command.name)
        is_refused = False
        while True:
            try:
                recorded = await self._find()
                if recorded is not None:
                    break
                if is_refused:
                    raise InvariantViolation(f"{self._context.name}: the log refuses an id that it does not have")
                return CommandResult(await self._run())
            except DuplicateOperation:
                is_refused = True
                self._log = self._log or self._host.command_log
            except Exception as error:
                if self._context.committed:
                    raise
                try:
                    await reruns.pause_after(error)
                except DatabaseUnavailable:
                    raise
                except Exception:
                    # Another run of the same id may have been faster, and what it has written may stand in the way.
                    recorded = await self._find_quietly()
                    if recorded is None:
                        raise
                    break
        return self._replayed(recorded)

    async def _find(self) -> Recorded | None:
        return None if self._log is None else await self._log.find(self._context.command_id)

    async def _find_quietly(self) -> Recorded | None:
        try:
            return await self._find()
        except Exception:
            logger.debug("nobody can tell whether %s is recorded", self._context.command_id, exc_info=True)
            return None

    async def _run(self) -> Any:
        context, log = self._context, self._log
        at_first = context.outcome
        try:
            result = await self._command.body(self._arguments)
        except Exception as error:
            if log is not None and log in context.committed:
                await self._record(log, outcome_of_error(error))
            context.outcome = at_first
            raise
        if log is not None:
            await self._record_result(log, result)
        return result

    async def _record_result(self, log: CommandLog, result: Any) -> None:
        try:
            outcome = outcome_of(result)
        except UsageError:  # its caller, in another process, will be told the same
            logger.warning("the result of %s cannot be recorded", self._context.name, exc_info=True)
            return
        if log not in self._context.committed:
            await log.write_command(self._context, outcome)
        elif outcome != self._context.outcome:
            await self._record(log, outcome)

    async def _record(self, log: CommandLog, outcome: bytes) -> None:
        """Record what a command that has committed ends with; where that fails, a retry will not know."""
        try:
            await log.record_outcome(self._context.command_id, outcome)
        except Exception:
            logger.warning("the outcome of %s could not be recorded", self._context.name, exc_info=True)

    def _replayed(self, recorded: Recorded) -> CommandResult:
        """Give an earlier run's result, and see that what it changed is known everywhere: it may have died before."""
        context = self._context
        recorded.check(self._command, context.fingerprint or self._command.fingerprint(self._arguments))
        keys = self._host.keys_of(recorded.keys, TOLD_BY_LOG)
        if keys:
            context.add(self._host.publish(keys, context.barrier, context.command_id))
        return recorded.replay(self._command)


async def _published_quietly(context: CommandContext) -> None:
    """A command that fails after a commit has changed data all the same: its caller waits for that too."""
    try:
        await context.published()
    except Exception:
        logger.warning("%s failed, and so did a publication of what it had committed", context.name, exc_info=True)
