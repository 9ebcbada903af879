"""What the registry keeps for some time, and the bound in bytes. (Which nodes go first: `pure.registry`.)"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import sys
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import Any, Final

from fusion_cluster.failures.exits import reraise_outside
from fusion_cluster.graph.computing.consolidation import is_consolidated
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, Registry, has_dependents

log = logging.getLogger(__name__)

SizeOf = Callable[[Any], int]
"""Estimates how many bytes a value takes, what it refers to included."""

NODE_BYTES: Final = 400
"""What a node counts for besides its value: itself, its key, its edges, its place in the table."""

_MOST_BYTES: Final = 2**44
"""More than a value can have, and so little that a sum of them is still a number in C."""

_SAMPLE: Final = 16
_DEPTH: Final = 4
_MOST_PARTS: Final = 200


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


class ByteBound:
    """Keeps what nodes and values weigh, by estimate, within a bound, at any moment that somebody could look.

    Room is made before a value is counted. The value of a node that others depend on is let go of ("paged out") before
    the node itself is: its edges stay, and the next read computes the value again. A value that somebody may still wait
    for is let go of when it has been read: until then its node counts as if it were gone already.

    Args:
        registry: what is bounded.
        max_bytes: the bound.
        size_of: estimates the bytes of a value.
        evict: invalidates a node to make room.
    """

    def __init__(
        self, registry: Registry, max_bytes: float, size_of: SizeOf, evict: Callable[[Node[Any]], object]
    ) -> None:
        self.max_bytes = min(max_bytes, 2.0**62)
        self._registry = registry
        self._size_of = size_of
        self._evict = evict
        self._new: set[Node[Any]] = set()
        """Nodes that were given a value in this turn of the event loop, and that somebody waits for."""
        self._unread: set[Node[Any]] = set()
        """Those of the turn before: they are being read in this one."""
        self._leaving: dict[Node[Any], None] = {}
        """Nodes whose values are let go of once they have been read."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the end of this turn is waited for."""

    def admit(self, node: Node[Any], *, is_awaited: bool) -> None:
        """Count a consistent node with what it has just been given; make room for it first.

        Args:
            node: the node.
            is_awaited: somebody will read it in the next turn of the event loop.
        """
        size = self._estimate(node)
        if node._state != CONSISTENT:  # invalidated by what estimates sizes
            return
        is_too_large = NODE_BYTES + size > self.max_bytes
        if is_too_large:  # it would drive out all others in vain
            size = 0
            self._leaving[node] = None
        is_let_go_later = is_awaited or is_too_large
        if is_let_go_later:
            self._new.add(node)
        self._registry.weigh(node, 0)  # what weighs nothing is not chosen as a victim
        is_retained = node._is_retained
        self._registry.retain(node)
        try:
            self._make_room(NODE_BYTES + size)
        finally:
            if not is_retained:
                self._registry.release(node)
        if node._state == CONSISTENT:
            self._registry.weigh(node, NODE_BYTES + size)
        if is_let_go_later and not self._schedule():
            self._new.discard(node)
            self._let_go()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _estimate(self, node: Node[Any]) -> int:
        if node._failure is not None:
            return 0
        try:
            size = int(self._size_of(node._value))
        except BaseException as raised:
            reraise_outside(raised)
            log.exception("the size of a value of %s cannot be estimated", node.function.name)
            return 0
        return min(max(size, 0), _MOST_BYTES)

    def _make_room(self, size: int) -> None:
        spared: list[Node[Any]] = []
        while self._registry.bytes + size + NODE_BYTES * len(spared) > self.max_bytes:
            victim = self._registry.heaviest_victim()
            if victim is None:
                if not spared:
                    return
                self._evict(spared.pop())
            elif not _may_page_out(victim) or victim in self._leaving:
                self._evict(victim)
            elif victim in self._new or victim in self._unread:
                self._leaving[victim] = None
                self._registry.weigh(victim, 0)
                spared.append(victim)
            else:
                self._page_out(victim)
        for node in spared:
            if node._state == CONSISTENT:
                self._registry.weigh(node, NODE_BYTES)

    def _page_out(self, node: Node[Any]) -> None:
        self._registry.weigh(node, NODE_BYTES)
        self._registry.page_out(node)  # last: the value's finalizer may invalidate the node

    def _schedule(self) -> bool:
        """Wait for the end of this turn of the event loop, if that runs; tell whether it does."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if self._loop is not loop:  # not yet, or in a loop that was closed before the turn had ended
            self._loop = loop
            loop.call_soon(self._on_turn, context=Context())
        return True

    def _on_turn(self) -> None:
        self._loop = None
        self._unread, self._new = self._new, set()
        if self._unread:
            self._schedule()
        self._let_go()

    def _let_go(self) -> None:
        """Let go of what has been read."""
        for node in [node for node in self._leaving if node not in self._unread and node not in self._new]:
            del self._leaving[node]
            if _may_page_out(node):
                self._page_out(node)
            elif node._state == CONSISTENT and not node._is_paged_out:
                self._evict(node)


def _may_page_out(node: Any) -> bool:
    """Tell whether something depends on `node`, and its body, which runs here, can give the value again.

    While it is consolidated the body might give another one than its dependents know.
    """
    return (
        node._state == CONSISTENT
        and not node._is_paged_out
        and node._failure is None
        and (node._observers is not None or has_dependents(node))
        and not is_consolidated(node)
        and node.function.hosting.schedules_expiry(node)
    )


def estimate_bytes(value: Any) -> int:
    """Estimate the bytes of a value: its own, and those of what it holds, from samples of long containers.

    An object that knows better says so by `nbytes` (NumPy, Arrow) or `__sizeof__`. What is held twice counts once, as
    far as that is seen.
    """
    return _Estimate().of(value, _DEPTH)


class _Estimate:
    """One estimate: bounded in depth, breadth and the number of objects that are looked into."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, value: Any, depth: int) -> int:
        if id(value) in self._seen:
            return 0
        self._seen.add(id(value))
        with suppress(Exception):  # an attribute that says something else, or nothing at all
            nbytes = value.nbytes
            if type(nbytes) is int:
                return nbytes + 64
        size = sys.getsizeof(value, 64)
        is_plain = isinstance(value, (str, bytes, int, float, type, type(None)))
        if is_plain or depth == 0 or len(self._seen) > _MOST_PARTS:
            return size
        if isinstance(value, dict):
            return size + self._sampled(value, depth) + self._sampled(value.values(), depth)
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            return size + self._sampled(value, depth)
        return size + sum(self.of(part, depth - 1) for part in _fields(value))

    def _sampled(self, parts: Collection[Any], depth: int) -> int:
        sizes = [self.of(part, depth - 1) for part in islice(parts, _SAMPLE)]
        is_distinct = 2 * sum(size > 0 for size in sizes) > len(sizes)
        # Where most of the sample was seen before, most of the rest will be nothing new either.
        return sum(sizes) * len(parts) // len(sizes) if is_distinct else sum(sizes)


def _fields(value: Any) -> list[Any]:
    """Return what the attributes of an object hold, with and without a `__dict__`; calls no properties."""
    fields = getattr(value, "__dict__", None)
    parts = [fields] if isinstance(fields, dict) else []
    names = getattr(type(value), "__struct_fields__", None)
    if not isinstance(names, tuple):
        names = itertools.chain.from_iterable(_slots(cls) for cls in type(value).__mro__)
    for name in names:
        if name not in ("__weakref__", "__dict__"):
            with suppress(Exception):
                parts.append(getattr(value, name))
    return parts


def _slots(cls: type) -> tuple[str, ...]:
    names: Any = cls.__dict__.get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)
