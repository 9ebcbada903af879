"""Commands of keys that other shards own: they are sent there, under one id for all attempts."""

from __future__ import annotations

from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands import CommandResult, Invocation
from fusion_cluster.commands.retrying import REASONS_TO_ASK_AGAIN, Retries
from fusion_cluster.runtime import Runtime
from fusion_cluster.runtime.baggage import with_principal
from fusion_cluster.runtime.deadline import NO_DEADLINE
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.results import decode_result
from fusion_router.owners import Owners


class RemoteCommands:
    """Sends commands to owners for one member.

    Args:
        owners: asks them.
        runtime: makes the ids of commands that have none.
    """

    def __init__(self, owners: Owners, runtime: Runtime) -> None:
        self._owners = owners
        self._entropy = runtime.entropy

    async def execute(self, method: Method, invocation: Invocation, slot: int) -> CommandResult:
        """Run a command on the owner of its slot; if the owner is lost meanwhile, on its successor under the same id.

        Raises:
            CommandOutcomeUnknown: the owner was lost while the command ran; it may or may not have been committed.
            ShardUnavailable: the owner could not be reached; the command did not run.
            Exception: the error that the command raised.
        """
        owners = self._owners
        encoded = method.arguments.encode(invocation.arguments)
        has_deadline = invocation.deadline_s != NO_DEADLINE
        sent = invocation.replace(
            command_id=invocation.command_id or self._entropy.new_id(),
            deadline_s=invocation.deadline_s if has_deadline else owners.default_deadline_s(),
            baggage=with_principal(owners.with_carried(invocation.baggage)),
        )
        retries: Retries | None = None
        while True:
            try:
                result = await owners.link(slot)[0].execute(sent, encoded)
                if result.HasField("error"):
                    raise decode_error(result.error)
            except REASONS_TO_ASK_AGAIN as error:
                retries = retries or Retries(owners.runtime, pause=owners.changed)
                sent = await retries.after(error, sent)
            else:
                value = decode_result(method.name, method.result, result.value)
                return CommandResult(value, is_replayed=result.replayed)
