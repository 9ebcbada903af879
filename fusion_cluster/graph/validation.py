"""The invariants of a graph, checked one by one: what tests call at every teardown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fusion_cluster.errors import InvariantViolation
from fusion_cluster.graph.core import COMPUTING, CONSISTENT, OUTDATED, Node

if TYPE_CHECKING:
    from fusion_cluster.graph.graph import Graph


def validate(graph: Graph) -> None:
    """Raise `InvariantViolation` if an invariant of `graph` does not hold (see `core` and `retention`)."""
    nodes = list(graph.nodes())
    for function in graph.functions.values():
        for key, node in function.nodes.items():
            expected = function.key_of(node)
            _require(key is expected or key == expected, node, "stands under another key")
            _require(node.function is function, node, "stands in the registry of another function")
    for node in nodes:
        _require(node._state <= CONSISTENT, node, "is in the registry though it is not live")
        _require(node._queue is not None, node, "is in no eviction queue")
        _validate_state(node)
        _validate_edges(node)
    retention = graph.retention
    _require(len(nodes) == retention.size, None, f"{len(nodes)} nodes, {retention.size} in the eviction queues")
    _require(len(nodes) <= graph.max_nodes, None, f"{len(nodes)} nodes are more than {graph.max_nodes}")
    for queue in (retention.evictable, retention.protected):
        count, node_or_none, older = 0, queue.oldest, None
        while node_or_none is not None:
            _require(node_or_none._queue is queue, node_or_none, "stands in another queue than it says")
            _require(node_or_none._older is older, node_or_none, "is not linked back")
            count, older, node_or_none = count + 1, node_or_none, node_or_none._newer
        _require(count == queue.size and queue.newest is older, None, "an eviction queue has another size than it says")
    outdated: Counter[Any] = Counter()
    for computation in graph._computations.values():
        node = computation.node
        if node._computation is computation and node._state == OUTDATED:
            outdated[node.function.name, node.function.key_of(node)] += 1
    for function in graph.functions.values():
        for key, count in function.outdated.items():
            _require(outdated.pop((function.name, key), 0) == count, None, f"{function.name} counts {key!r} wrongly")
    _require(not outdated, None, f"outdated computations are not counted: {outdated}")
    for computation in graph._computations.values():
        if computation.node._computation is computation:
            _require(bool(computation.waiters), computation.node, "is computed though nobody waits for it")


def dependents_of(node: Node[Any]) -> set[Node[Any]]:
    """Return the dependents of a node."""
    dependents = node._dependents
    if dependents is None:
        return set()
    return set(dependents) if type(dependents) is set else {dependents}  # type: ignore[arg-type]


def dependencies_of(node: Node[Any]) -> list[Node[Any]]:
    """Return what a node has used."""
    return list(node._dependencies or ())


def _validate_state(node: Any) -> None:
    if node._state == CONSISTENT:
        _require(node.has_output, node, "is consistent without an output")
        _require(node.version != 0, node, "is consistent without a version")
        _require(node._computation is None, node, "is consistent and being computed")
    else:
        _require(not node.has_output, node, "is computing and has an output")
        _require(node._expiry is None, node, "is computing and has an expiry")


def _validate_edges(node: Node[Any]) -> None:
    for dependent in dependents_of(node):
        _require(dependent._state <= CONSISTENT, dependent, f"is a dependent of {_name(node)} though it is not live")
        waits_for = dependent._computation.waits_for if dependent._computation is not None else None
        used = node in dependencies_of(dependent)
        _require(used or node in (waits_for or ()), dependent, f"is a dependent of {_name(node)} but does not use it")
    dependencies = dependencies_of(node)
    _require(len(dependencies) == len(set(dependencies)), node, "has used the same node twice")
    for dependency in dependencies:
        _require(node in dependents_of(dependency), node, f"uses {_name(dependency)}, which does not know it")
    if node._state == COMPUTING and node._computation is not None:
        for awaited in node._computation.waits_for or ():
            _require(node in dependents_of(awaited), node, f"waits for {_name(awaited)}, which does not know it")


def _name(node: Any) -> str:
    return str(node.key)


def _require(holds: bool, node: Any, problem: str) -> None:
    if not holds:
        raise InvariantViolation(problem if node is None else f"{_name(node)} {problem}")
