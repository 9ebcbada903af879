"""How a command runs where its key is owned."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fusion_cluster.commands.command import BoundCommand
from fusion_cluster.commands.context import CommandContext, current_command
from fusion_cluster.commands.turns import Turns
from fusion_cluster.errors import ClusterError, CommandOutcomeUnknown
from fusion_cluster.graph.context import isolated

logger = logging.getLogger(__name__)


async def run_command(
    command: BoundCommand[..., Any], arguments: tuple[Any, ...], command_id: str | None, *, turns: Turns
) -> Any:
    """Run a command here, when it is its key's turn, and return its result once all its publications have ended.

    Cancelled, it is rolled back unless its commit has begun. What was committed is published in any case, also when the
    caller has left or the rest of the command fails.

    Args:
        command: what to run.
        arguments: its canonical arguments.
        command_id: names this run; None makes a new one.
        turns: the commands that run in this host.

    Raises:
        CommandOutcomeUnknown: it was carried out, but an owner of what it invalidated could not be reached in time.
        Exception: what the command raised, or, when it succeeded, the error of a publication.
    """
    context = CommandContext(
        command.name,
        command_id or uuid.uuid4().hex,
        command.hosting,
        barrier=command.barrier,
        arguments=arguments,
    )
    token = current_command.set(context)
    try:
        with isolated():
            async with turns.of(command.turn_key(arguments)):
                result = await command.body(arguments)
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
        current_command.reset(token)


async def _published_quietly(context: CommandContext) -> None:
    """A command that fails after a commit has changed data all the same: its caller waits for that too."""
    try:
        await context.published()
    except Exception:
        logger.warning("%s failed, and so did a publication of what it had committed", context.name, exc_info=True)
