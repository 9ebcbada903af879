"""Graphs whose results are looked after: what comes into the cache, and what is read from it, passes a guard.

Strict hosts have one (`fusion_cluster.strict`). All others have none, and pay nothing: their nodes are plain
`Computed`s, whose hit is in C.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from fusion_cluster.graph.computed import Computed
from fusion_cluster.graph.computing.surroundings import Guard
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, mark

T_co = TypeVar("T_co", covariant=True)


Marking = Callable[..., tuple[list[Any], list[Any]] | None]
"""See `core.mark`."""


def marking(guard: Guard) -> Marking:
    """Return what marks subgraphs as out of date, of which the guard hears before."""

    def mark_guarded(node: Node[Any], *told: Any) -> tuple[list[Any], list[Any]] | None:
        if node._state <= CONSISTENT:
            guard.before_invalidation(node)
        return mark(node, *told)

    return mark_guarded


class GuardedComputed(Computed[T_co]):
    """A computed of a graph with a guard: each read of its value asks that first."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, T_co]:
        self.function.graph.starter(self)  # says whether this is its event loop; hits of other nodes do not ask
        try:
            return (yield from self._use())
        finally:
            del self  # see Computed.__await__

    def _handed_out(self) -> T_co:
        guard = self.function.graph.guard
        if guard is not None:
            guard.before_read(self)
        return self._value
