"""What happened last in a graph: a ring of events, cheap enough to be always on."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fusion_cluster.graph.pure.node import Node

COMPUTED: Final = 0
FAILED: Final = 1
OUT_OF_DATE: Final = 2
PAGED_OUT: Final = 3

Event = tuple[int, int, Any, Any, int, int, Any, float]
"""Number, kind, compute function, table key, version, number of the event that caused it (or -1), cause, Unix time."""


class History:
    """The last events, oldest first; older ones are forgotten.

    Args:
        capacity: how many are kept; 0 keeps none.
    """

    def __init__(self, capacity: int) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self._count = 0

    def record(self, kind: int, node: Node[Any], via: int, cause: object) -> int:
        """Note what happened to `node`; return the number of the event.

        Args:
            kind: one of the constants of this module.
            node: to whom.
            via: number of the event that this one follows from, -1 if none.
            cause: what it goes back to.
        """
        number = self._count
        self._count += 1
        if self._events.maxlen:
            self._events.append((number, kind, node.function, node.table_key, node.version, via, cause, time.time()))
        return number

    def events(self) -> list[Event]:
        """Return what is kept, oldest first."""
        return list(self._events)

    def clear(self) -> None:
        """Forget all."""
        self._events.clear()
