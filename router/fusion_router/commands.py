"""Commands of keys that other shards own: they are sent there, under one id for all attempts."""

from __future__ import annotations

from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands import CommandResult, Invocation
from fusion_cluster.commands.retrying import until_answered
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
        encoded = method.arguments.encode(invocation.arguments)

        async def attempt(invocation: Invocation) -> CommandResult:
            result = await self._owners.link(slot)[0].execute(invocation, encoded)
            if result.WhichOneof("outcome") == "error":
                raise decode_error(result.error)
            return CommandResult(decode_result(method.name, method.result, result.value), is_replayed=result.replayed)

        has_deadline = invocation.deadline_s != NO_DEADLINE
        sent = invocation.replace(
            command_id=invocation.command_id or self._entropy.new_id(),
            deadline_s=invocation.deadline_s if has_deadline else self._owners.default_deadline_s(),
            baggage=with_principal(self._owners.with_carried(invocation.baggage)),
        )
        return await until_answered(sent, attempt, runtime=self._owners.runtime, pause=self._owners.changed)
