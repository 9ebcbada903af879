"""Edges: what a computation has used, or waits for now.

An edge is known at both ends, and exists between live nodes only. `dependent in node._dependents` if and only if
`node in dependent._dependencies`.
"""

from __future__ import annotations

from typing import Any

from fusion_cluster.graph.core.pure.registry import Node
from fusion_cluster.graph.core.pure.states import COMPUTING, CONSISTENT


def capture(dependent: Node[Any], node: Node[Any]) -> None:
    """Record that `dependent`, the current computation, has been given the output of `node`.

    Nothing is recorded once `dependent` has completed (tasks may outlive the body that made them), or is outdated.
    """
    if dependent._state != COMPUTING:
        return
    if node._state == CONSISTENT:
        link(dependent, node)
    elif node._state != COMPUTING:
        dependent.table.registry.on_outdated_use(dependent, node)


def link(dependent: Node[Any], node: Node[Any]) -> bool:
    """Add the edge by which an invalidation of `node` reaches `dependent`; tell whether it is new.

    Both are live, and `dependent` is computing.
    """
    dependencies = dependent._dependencies
    if not dependencies:
        dependent._dependencies = dependencies = {}
    elif node in dependencies:
        return False
    dependencies[node] = None  # type: ignore[index]  # a dict while computing
    dependents = node._dependents
    if dependents is None:
        node._dependents = dependent
    elif type(dependents) is set:
        dependents.add(dependent)
    else:
        node._dependents = {dependents, dependent}  # type: ignore[arg-type]
    return True


def unlink(dependent: Node[Any], node: Node[Any]) -> None:
    """Remove the edge by which an invalidation of `node` reaches `dependent`, if there is one."""
    dependencies = dependent._dependencies
    if node not in dependencies:
        return
    if type(dependencies) is dict:
        del dependencies[node]
    else:
        dependent._dependencies = tuple(other for other in dependencies if other is not node)
    remove_dependent(node, dependent)


def remove_dependent(node: Node[Any], dependent: Node[Any]) -> None:
    """Take `dependent` out of the dependents of `node`; the other end of the edge is the caller's."""
    dependents = node._dependents
    if dependents is dependent:
        node._dependents = None
    elif type(dependents) is set:
        dependents.discard(dependent)
        if dependents:
            return
        node._dependents = None
    else:
        return
    node.table.registry.loosened(node)


def has_dependents(node: Node[Any]) -> bool:
    """Tell whether anything uses `node`, or waits for it."""
    return node._dependents is not None


def dependents_of(node: Node[Any]) -> list[Node[Any]]:
    """Return those that use `node`, or wait for it."""
    dependents = node._dependents
    if dependents is None:
        return []
    return list(dependents) if type(dependents) is set else [dependents]  # type: ignore[list-item]


def dependencies_of(node: Node[Any]) -> list[Node[Any]]:
    """Return what `node` has used, or waits for now."""
    return list(node._dependencies)
