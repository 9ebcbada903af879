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
        self._function.graph.fence.lower(0.0)

    @property
    def fence_s(self) -> float:
        """The earliest of theirs."""
        node = self._function.table.get(())
        if node is None:
            return math.inf
        if node._state == COMPUTING:
            return 0.0
        return min((registry.fence_s for registry in _registries_beneath(node)), default=math.inf)

    def expire(self, now_s: float) -> None:
        """Let them settle what has expired."""
        node = self._function.table.get(())
        if node is not None:
            for registry in _registries_beneath(node):
                registry.check_fence()


def _registries_beneath(node: Any) -> Iterator[Registry]:
    """Go through the registries that a node's dependencies are in; few, and some perhaps more than once."""
    registry: Registry | None = None
    for dependency in dependencies_of(node):
        if dependency.table.registry is not registry:
            registry = dependency.table.registry
            yield registry
