"""Invalidation of a subgraph."""

from __future__ import annotations

from typing import Any

from fusion_cluster.graph.core.pure.edges import dependents_of, remove_dependent
from fusion_cluster.graph.core.pure.history import DELAYED, OUT_OF_DATE
from fusion_cluster.graph.core.pure.registry import Node
from fusion_cluster.graph.core.pure.states import CONSISTENT, ON_INVALIDATE, ON_OUTDATE


def mark(root: Node[Any], cause: object, via: int = -1, home: object = None) -> tuple[list[Any], list[Any]] | None:
    """Mark `root` and its transitive dependents as out of date; take them out of their tables; remove their edges.

    A dependent that is consistent and whose table is delayed is passed over; it loses the edge by which it was reached.

    Calls no code of users: observers are told by the caller, when the whole subgraph is marked, so that none of them
    can read a dependent that is not marked yet. A loop, no recursion.

    Args:
        root: a live node, or one that is out of date already (then nothing happens).
        cause: what this goes back to, for the history.
        via: number of the event that this follows from, -1 if none.
        home: of the history that `via` is in; None: that of `root`.

    Returns:
        The marked nodes that have observers, a timer or a computation, in order, and the delayed ones that were passed
        over; None when there are none of either.
    """
    if root._state > CONSISTENT:
        return None
    # Keeps them alive until all are marked.
    marked: list[tuple[Node[Any], int]] = [(root, _outdate(root, via, cause, home))]
    concerned: list[Node[Any]] = [root] if _is_of_concern(root) else []
    delayed: list[Node[Any]] = []
    for node, event in marked:
        dependents = dependents_of(node)
        node._dependents = None
        for dependent in dependents:
            if dependent._state > CONSISTENT:
                continue
            if dependent.table.is_delayed and dependent._state == CONSISTENT:
                dependent._dependencies = tuple(other for other in dependent._dependencies if other is not node)
                delayed.append(dependent)
                history = dependent.table.registry.history
                history.record(DELAYED, dependent, event, cause, home_of(node, dependent))
                continue
            marked.append((dependent, _outdate(dependent, event, cause, home_of(node, dependent))))
            if _is_of_concern(dependent):
                concerned.append(dependent)
        dependencies = node._dependencies
        node._dependencies = ()
        for dependency in dependencies:
            remove_dependent(dependency, node)
    return (concerned, delayed) if concerned or delayed else None


def home_of(node: Node[Any], dependent: Node[Any]) -> object:
    """Return what stands for the history of `node` in that of `dependent`; None when it is the same."""
    history = node.table.registry.history
    return None if history is dependent.table.registry.history else history.home


def _outdate(node: Node[Any], via: int, cause: object, home: object) -> int:
    node._state = (ON_INVALIDATE if node._computation is None else ON_OUTDATE)[node._state]
    table = node.table
    table.remove(node)
    return table.registry.history.record(OUT_OF_DATE, node, via, cause, home)


def _is_of_concern(node: Node[Any]) -> bool:
    return node._observers is not None or node._expiry is not None or node._computation is not None
