"""The outbox as operations use it: where the events that they emit are written."""

from __future__ import annotations

from typing import Protocol

from fusion_cluster.commands.operation import Operation


class EventOutbox(Protocol):
    """Where operations put what they emit: a database."""

    async def write(self, operation: Operation) -> None:
        """Write what an operation has emitted, in its transaction."""
        ...

    def on_committed(self) -> None:
        """Events were committed here: wake those who deliver them."""
        ...
