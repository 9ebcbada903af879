"""What the registry keeps for some time, and what values weigh. (Which nodes go first: `pure.registry`.)"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from fusion_cluster.graph.core import CONSISTENT, Node, Registry

SizeOf = Callable[[Any], int]
"""Estimates how many bytes a value takes, what it refers to included."""

NODE_BYTES: Final = 400
"""What a node counts for besides its value: itself, its key, its edges, its place in the table."""

_SAMPLE: Final = 16
_DEPTH: Final = 4


class TimedRetention:
    """The nodes with an unexpired `min_cache_duration`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._retained: list[tuple[float, int, Node[Any]]] = []
        self._sequence = itertools.count()

    def retain(self, node: Node[Any], until_s: float) -> None:
        """Protect a node from eviction until then, as far as the bounds allow."""
        self._registry.retain(node)
        if len(self._retained) > 2 * self._registry.size + 64:  # mostly nodes that were invalidated meanwhile
            self._retained = [entry for entry in self._retained if entry[2]._state <= CONSISTENT]
            heapq.heapify(self._retained)
        heapq.heappush(self._retained, (until_s, next(self._sequence), node))

    def release_expired(self, now_s: float) -> None:
        """End the protection of those whose time is over."""
        while self._retained and self._retained[0][0] <= now_s:
            node = heapq.heappop(self._retained)[2]
            if node._state <= CONSISTENT:
                self._registry.release(node)


def estimate_bytes(value: Any) -> int:
    """Estimate the bytes of a value: its own, and those of what it holds, from samples of long containers.

    An object that knows better says so by `nbytes` (NumPy, Arrow) or `__sizeof__`.
    """
    return _estimate(value, _DEPTH)


def _estimate(value: Any, depth: int) -> int:
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes + 64
    size = sys.getsizeof(value, 64)
    if depth == 0 or isinstance(value, (str, bytes, int, float, type(None))):
        return size
    if isinstance(value, dict):
        parts = [*islice(value.keys(), _SAMPLE), *islice(value.values(), _SAMPLE)]
        return size + _scaled(parts, 2 * len(value), depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + _scaled(list(islice(value, _SAMPLE)), len(value), depth)
    fields = getattr(value, "__dict__", None)
    if isinstance(fields, dict):
        return size + _estimate(fields, depth - 1)
    names: Any = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__slots__", ())
    if isinstance(names, str):
        names = (names,)
    parts = [getattr(value, name, None) for name in names if name not in ("__weakref__", "__dict__")]
    return size + _scaled(parts, len(parts), depth)


def _scaled(parts: list[Any], count: int, depth: int) -> int:
    if not parts:
        return 0
    return sum(_estimate(part, depth - 1) for part in parts) * count // len(parts)
