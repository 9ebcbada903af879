"""Nodes in doubt: their owners cannot be asked for a moment, and it is not known whether they are up to date.

What rests on such a node is not served. A reader that comes to it gives up what it rests on, which is computed anew: so
that reader waits for the owner, and all that nobody reads meanwhile stays as it is.

That nothing stale is served does not depend on this: nodes of other processes are served by leases, which their owners
wait for (see `fence`), in doubt or not.

Invariant: `registry.is_in_doubt` is true exactly while there are sources of doubt. As long, every hit comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, Registry, dependencies_of
from fusion_cluster.graph.core.observers import Observers

Roots = Mapping[Node[Any], Callable[[], object]]
"""Nodes in doubt, with what invalidates each of them."""


class Doubt:
    """The nodes of one graph that are in doubt.

    Args:
        registry: what asks it.
        observers: they are held back while nodes are given up.
        is_in_own_thread: tells whether this thread is the graph's.

    Attributes:
        on_lifted: each is called when no node is in doubt any more.
    """

    __slots__ = ("_is_in_own_thread", "_observers", "_registry", "_sources", "_sure", "on_lifted")

    def __init__(self, registry: Registry, observers: Observers, *, is_in_own_thread: Callable[[], bool]) -> None:
        self.on_lifted: list[Callable[[], object]] = []
        self._registry = registry
        self._observers = observers
        self._is_in_own_thread = is_in_own_thread
        self._sources: dict[object, Roots] = {}
        # Nodes of which it is known that they do not rest on any in doubt.
        self._sure: set[Node[Any]] = set()

    def begin(self, source: object, roots: Roots) -> None:
        """Doubt nodes, until `end` for the same source."""
        self._sources[source] = roots
        self._sure.clear()
        self._registry.is_in_doubt = True

    def end(self, source: object) -> None:
        """Doubt them no more: those that are still consistent are up to date."""
        if self._sources.pop(source, None) is None or self._sources:
            return
        self._sure.clear()
        self._registry.is_in_doubt = False
        for listener in self.on_lifted:
            listener()

    def settle(self, node: Node[Any]) -> bool:
        """Invalidate what is in doubt beneath a node that is about to be served; return whether there was anything.

        Raises:
            UsageError: there is, and this is not the graph's thread.
        """
        found = self._beneath(node)
        if not found:
            return False
        if not self._is_in_own_thread():
            raise UsageError("this graph has to find out whether a value is up to date, and belongs to another thread")
        with self._observers.held():
            for root in found:
                for roots in list(self._sources.values()):
                    if root in roots:
                        roots[root]()
        return True

    def _beneath(self, node: Node[Any]) -> list[Node[Any]]:
        sure = self._sure
        sources = tuple(self._sources.values())
        found: list[Node[Any]] = []
        seen = {node}
        stack = [node]
        while stack:
            top = stack.pop()
            if top in sure:
                continue
            if any(top in roots for roots in sources):
                found.append(top)
                continue
            for dependency in dependencies_of(top):
                if dependency not in seen:
                    seen.add(dependency)
                    stack.append(dependency)
        if not found:
            sure.update(other for other in seen if other._state == CONSISTENT)
        return found
