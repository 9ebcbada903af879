"""The operation log as commands use it: it records them and their operations."""

from __future__ import annotations

from typing import Protocol

from fusion_cluster.commands.context import CommandContext
from fusion_cluster.commands.operation import Operation
from fusion_cluster.commands.outcomes import LoggedKey, OutcomeLog


class CommandLog(OutcomeLog, Protocol):
    """Records commands and operations: the operation log of a database."""

    async def write(self, operation: Operation) -> None:
        """Flush the pending changes of an operation, seal it, and write its entry, in its transaction.

        Raises:
            DuplicateOperation: one of that id is committed already.
        """
        ...

    async def write_keys(self, operation: Operation, keys: list[LoggedKey]) -> None:
        """Write a further entry for keys that a committed operation invalidates and that are not in its entry."""
        ...

    async def write_command(self, context: CommandContext, outcome: bytes) -> None:
        """Record a command that had no operation, in a transaction of its own.

        Raises:
            DuplicateOperation: one of that id is committed already.
        """
        ...

    def on_committed(self, operation: Operation) -> None:
        """Note that an operation was committed here, and wake the followers of the log."""
        ...
