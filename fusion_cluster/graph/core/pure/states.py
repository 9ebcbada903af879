"""The states of a node, as numbers, and the table of its transitions.

`COMPUTING` and `CONSISTENT` are *live*, what is greater is not.

1.  A node computes until it has an output. Then it is admitted: it is consistent.
2.  A live node that is marked as out of date is invalidated. While a computation runs it is outdated instead: those who
    wait are still given its output. (A consistent node computes too: when its value was paged out.)
3.  An outdated node is invalidated when its computation has ended.
4.  Nothing comes back.

`_speed.c` makes the same transitions; the tests compare the twins.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

COMPUTING: Final = 0
CONSISTENT: Final = 1
OUTDATED: Final = 2
"""Still computing, but what it reads has changed: not in the registry, and INVALIDATED when it completes."""
INVALIDATED: Final = 3


class NodeState(IntEnum):
    """The states, by name."""

    COMPUTING = COMPUTING
    CONSISTENT = CONSISTENT
    OUTDATED = OUTDATED
    INVALIDATED = INVALIDATED


class NodeEvent(IntEnum):
    """What happens to a node."""

    ADMIT = 0
    OUTDATE = 1
    INVALIDATE = 2
    END = 3


NODE: Final[Mapping[NodeState, Mapping[NodeEvent, NodeState]]] = {
    NodeState.COMPUTING: {
        NodeEvent.ADMIT: NodeState.CONSISTENT,
        NodeEvent.OUTDATE: NodeState.OUTDATED,
        NodeEvent.INVALIDATE: NodeState.INVALIDATED,
    },
    NodeState.CONSISTENT: {
        NodeEvent.OUTDATE: NodeState.OUTDATED,
        NodeEvent.INVALIDATE: NodeState.INVALIDATED,
    },
    NodeState.OUTDATED: {
        NodeEvent.END: NodeState.INVALIDATED,
    },
    NodeState.INVALIDATED: {},
}


def _on(event: NodeEvent) -> dict[int, int]:
    """Return what follows an event, by state; a state that does not allow it is not there."""
    return {int(state): int(row[event]) for state, row in NODE.items() if event in row}


ON_ADMIT: Final = _on(NodeEvent.ADMIT)
ON_OUTDATE: Final = _on(NodeEvent.OUTDATE)
ON_INVALIDATE: Final = _on(NodeEvent.INVALIDATE)
ON_END: Final = _on(NodeEvent.END)
