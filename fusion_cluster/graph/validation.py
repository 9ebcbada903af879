"""The invariants of a graph, checked one by one: what tests call at every teardown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from fusion_cluster.errors import InvariantViolation
from fusion_cluster.graph.computed import ComputeFunction
from fusion_cluster.graph.computing.computation import Computation
from fusion_cluster.graph.computing.consolidation import is_consolidated
from fusion_cluster.graph.core.hot_path import (
    COMPUTING,
    CONSISTENT,
    OUTDATED,
    Node,
    Registry,
    dependencies_of,
    dependents_of,
)


def validate(
    functions: Iterable[ComputeFunction],
    registry: Registry,
    computations: Collection[Computation],
    *,
    max_nodes: int,
    max_bytes: float,
) -> None:
    """Check a graph (see `core` and `pure.registry`).

    Args:
        functions: its functions, without their sources.
        registry: its registry.
        computations: those whose tasks have not ended.
        max_nodes: its bound.
        max_bytes: its bound.

    Raises:
        InvariantViolation: an invariant does not hold.
    """
    functions = [found for function in functions for found in function.all_functions()]
    nodes = [node for function in functions for node in function.nodes()]
    for function in functions:
        for node in function.nodes():
            _require(function.table.get(node.table_key) is node, node, "stands under another key")
            _require(node.function is function, node, "stands in the table of another function")
    for node in nodes:
        _require(node._state <= CONSISTENT, node, "is in its table though it is not live")
        _validate_state(node)
        _validate_edges(node)
        _validate_target(node)
    _validate_queues(nodes, registry)
    _require(len(nodes) == registry.size, None, f"{len(nodes)} nodes, {registry.size} in the eviction queues")
    _require(len(nodes) <= max_nodes, None, f"{len(nodes)} nodes are more than {max_nodes}")
    _require(registry.bytes <= max_bytes, None, f"{registry.bytes} bytes are more than {max_bytes}")
    _require(sum(node._weight for node in nodes) == registry.bytes, None, "the bytes are not those of the nodes")
    _validate_outdated(computations, functions)


def _validate_queues(nodes: list[Any], registry: Registry) -> None:
    evictable, protected, paged_out = registry.queues()
    queued = Counter([*evictable, *protected, *paged_out])
    for node in nodes:
        _require(queued.pop(node, 0) == 1, node, "is not in exactly one eviction queue")
    _require(not queued, None, f"these are in an eviction queue, but not live: {list(queued)}")
    for node in paged_out:
        _require(node._is_paged_out, node, "is with those whose values are paged out")
    for node in protected:
        _require(not node._is_paged_out, node, "is paged out, and not with the others of these")


def _validate_outdated(computations: Collection[Computation], functions: list[ComputeFunction]) -> None:
    outdated: Counter[Any] = Counter()
    for computation in computations:
        node = computation.node
        if node._computation is computation and node._state == OUTDATED:
            outdated[node.function.name, node.table_key] += 1
    for function in functions:
        for key, count in function.outdated.items():
            _require(outdated.pop((function.name, key), 0) == count, None, f"{function.name} counts {key!r} wrongly")
    _require(not outdated, None, f"outdated computations are not counted: {outdated}")
    for computation in computations:
        if computation.node._computation is computation:
            _require(bool(computation.waiters), computation.node, "is computed though nobody waits for it")


def _validate_state(node: Any) -> None:
    if node._state == CONSISTENT and node._is_paged_out:
        _require(not node.has_output, node, "is paged out and has an output")
    elif node._state == CONSISTENT:
        _require(node.has_output, node, "is consistent without an output")
        _require(node.version != 0, node, "is consistent without a version")
        _require(node._computation is None, node, "is consistent and being computed")
    else:
        _require(not node.has_output, node, "is computing and has an output")
        _require(node._expiry is None or node._computation is not None, node, "has an expiry and nobody computes it")


def _validate_edges(node: Node[Any]) -> None:
    dependents = dependents_of(node)
    _require(len(dependents) == len(set(dependents)), node, "has a dependent twice")
    for dependent in dependents:
        _require(dependent._state <= CONSISTENT, dependent, f"is a dependent of {_name(node)} though it is not live")
        _require(
            node in dependencies_of(dependent), dependent, f"is a dependent of {_name(node)}, and does not know it"
        )
    dependencies = dependencies_of(node)
    _require(len(dependencies) == len(set(dependencies)), node, "has used the same node twice")
    for dependency in dependencies:
        _require(node in dependents_of(dependency), node, f"uses {_name(dependency)}, which does not know it")
    if node._state == COMPUTING and node._computation is not None:
        for awaited in node._computation.waits_for or ():
            _require(node in dependents_of(awaited), node, f"waits for {_name(awaited)}, which does not know it")


def _validate_target(node: Any) -> None:
    source = node.function.source
    if source is None or node._state != CONSISTENT or not node.function.hosting.schedules_expiry(node):
        return
    watched = dependencies_of(node)
    if is_consolidated(node):
        _require(not watched, node, "is consolidated, and depends on something")
        _require(not node._is_paged_out, node, "is consolidated, and paged out")
    else:
        _require(watched == [source.table.get(node.table_key)], node, "does not depend on its source alone")
        _require(node._expiry is None, node, "has a time of its own, besides that of its source")


def _name(node: Any) -> str:
    return str(node.key)


def _require(holds: bool, node: Any, problem: str) -> None:
    if not holds:
        raise InvariantViolation(problem if node is None else f"{_name(node)} {problem}")
