"""The fence of a state that computes: its graph rests on the graphs of the services that it reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fusion_cluster.graph.core.hot_path import COMPUTING, dependencies_of

if TYPE_CHECKING:
    from fusion_cluster.graph import ComputeFunction
    from fusion_cluster.graph.core.hot_path import Registry


class GraphsBeneath:
    """The graphs that a state's computed has read from, as a `graph.Lease`: what they may not serve, it may not.

    Args:
        function: the state's; alone in its graph, with one key.
    """

    def __init__(self, function: ComputeFunction) -> None:
        self._function = function
        function.graph.fence.add(self)

    def begin(self) -> None:
        """Hear that a computation begins: until it has ended nobody knows what it will have read."""
        self._function.graph.fence.lower(-math.inf)

    @property
    def fence_s(self) -> float:
        """The earliest of theirs; always over while one of them goes by another clock than the state."""
        node = self._function.table.get(())
        if node is None:
            return math.inf
        if node._state == COMPUTING:
            return -math.inf
        own = node.table.registry
        return min((_fence_s(registry, own) for registry in _registries_beneath(node)), default=math.inf)

    def expire(self, now_s: float) -> None:
        """Let them settle what has expired."""
        node = self._function.table.get(())
        if node is not None:
            for registry in _registries_beneath(node):
                registry.check_fence()


def _fence_s(registry: Registry, own: Registry) -> float:
    """Return the fence time of a registry, for one that may have another clock."""
    fence_s = registry.fence_s
    return fence_s if registry.clock is own.clock or fence_s == math.inf else -math.inf


def _registries_beneath(node: Any) -> Iterator[Registry]:
    """Go through the registries that a node's dependencies are in; few, and some perhaps more than once."""
    registry: Registry | None = None
    for dependency in dependencies_of(node):
        if dependency.table.registry is not registry:
            registry = dependency.table.registry
            yield registry
