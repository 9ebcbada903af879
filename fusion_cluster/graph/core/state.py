"""The state of a computed as users see it, and whether it has an output."""

from __future__ import annotations

import enum
from typing import Any, Final

from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.core.pure.states import COMPUTING, CONSISTENT, INVALIDATED, OUTDATED


class State(enum.Enum):
    """The life of a computed; it goes one way."""

    COMPUTING = "computing"
    CONSISTENT = "consistent"
    INVALIDATED = "invalidated"


SHOWN: Final = {
    COMPUTING: State.COMPUTING,
    CONSISTENT: State.CONSISTENT,
    OUTDATED: State.COMPUTING,
    INVALIDATED: State.INVALIDATED,
}
"""What users see of each state of a node."""


def has_output(node: Node[Any]) -> bool:
    """Tell whether a node has a value or an error now."""
    return node._failure is not None or hasattr(node, "_value")
