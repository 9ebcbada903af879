"""The outbox as operations use it: they write their events into it."""

from __future__ import annotations

from typing import Protocol

from fusion_cluster.commands.operation import Operation


class EventOutbox(Protocol):
    """Takes the events that operations emit: the outbox of a database."""

    async def write(self, operation: Operation) -> None:
        """Write the events of an operation, in its transaction."""
        ...

    def on_committed(self) -> None:
        """Note that events were committed here, and wake the deliverers."""
        ...
