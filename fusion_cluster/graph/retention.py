"""How many nodes a registry keeps, and which go first: SIEVE with protected nodes.

SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): nodes stand in the order of their creation; a hand moves
from the oldest to the newest; a node that was hit since the hand last passed is spared once, the first that was not is
evicted. A hit therefore moves nothing: "visited" is that the hit counter has changed.

Nodes with dependents, with observers, being computed, or retained by `min_cache_duration` are *protected*. The hand
takes those that it meets out of the `evictable` queue into the `protected` one; they come back, as the newest, when
nothing protects them any more. Only when nothing is evictable does a second hand go through the protected ones: the
bound is hard.

Invariant: each live node of the graph's registry is in exactly one of the two queues.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from fusion_cluster.graph.core import Node


class Queue:
    """A doubly linked list through the nodes themselves, oldest to newest, with a SIEVE hand."""

    __slots__ = ("hand", "newest", "oldest", "owner", "size")

    def __init__(self, owner: Retention) -> None:
        self.owner = owner
        self.oldest: Node[Any] | None = None
        self.newest: Node[Any] | None = None
        self.hand: Node[Any] | None = None
        self.size = 0

    def push(self, node: Node[Any]) -> None:
        """Append `node` as the newest."""
        newest = self.newest
        node._older = newest
        if newest is None:
            self.oldest = node
        else:
            newest._newer = node
        self.newest = node
        node._queue = self
        self.size += 1

    def remove(self, node: Node[Any]) -> None:
        """Take `node` out; the hand goes on to the next newer one."""
        older, newer = node._older, node._newer
        if self.hand is node:
            self.hand = newer
        if older is None:
            self.oldest = newer
        else:
            older._newer = newer
        if newer is None:
            self.newest = older
        else:
            newer._older = older
        node._older = node._newer = node._queue = None
        self.size -= 1

    def next(self) -> Node[Any] | None:
        """Return the node under the hand, the oldest when the hand is past the newest, None when empty."""
        return self.hand or self.oldest

    def spare(self, node: Node[Any]) -> bool:
        """Pass over `node`, which is under the hand, if it was hit since the hand last passed."""
        if node.hits == node._swept_hits:
            return False
        node._swept_hits = node.hits
        self.hand = node._newer
        return True

    def loosened(self, node: Node[Any]) -> None:
        """Hear that one reason to protect `node`, which is in this queue, is gone."""
        if self is self.owner.protected:
            self.owner.loosen(node)


class Retention:
    """The eviction order of one graph."""

    def __init__(self) -> None:
        self.evictable = Queue(self)
        self.protected = Queue(self)
        self._retained: list[tuple[float, int, Node[Any]]] = []
        self._sequence = itertools.count()
        self._now_s = 0.0

    @property
    def size(self) -> int:
        """How many nodes are in the registry."""
        return self.evictable.size + self.protected.size

    def add(self, node: Node[Any]) -> None:
        """Enter a new node, as the newest."""
        self.evictable.push(node)

    def remove(self, node: Node[Any]) -> None:
        """Forget a node, if it is here."""
        if node._queue is not None:
            node._queue.remove(node)

    def victim(self, now_s: float) -> Node[Any] | None:
        """Return the node to evict next; it stays where it is. None when there are no nodes."""
        self._now_s = now_s
        self._release_expired()
        return self._sieve_evictable() or self._sieve_protected()

    def loosen(self, node: Node[Any]) -> None:
        """Let a node of the protected queue be evictable again, if nothing protects it any more."""
        if self._is_protected(node):
            self._remember_expiry(node)
            return
        self.protected.remove(node)
        self.evictable.push(node)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _sieve_evictable(self) -> Node[Any] | None:
        queue = self.evictable
        while (node := queue.next()) is not None:
            if self._is_protected(node):
                queue.remove(node)
                self.protected.push(node)
                self._remember_expiry(node)
            elif not queue.spare(node):
                return node
        return None

    def _sieve_protected(self) -> Node[Any] | None:
        queue = self.protected
        while (node := queue.next()) is not None:
            if not queue.spare(node):
                return node
        return None

    def _is_protected(self, node: Node[Any]) -> bool:
        return (
            node._dependents is not None
            or node._observers is not None
            or node._computation is not None
            or node._retained_until > self._now_s
        )

    def _remember_expiry(self, node: Node[Any]) -> None:
        if node._retained_until <= self._now_s:
            return
        if len(self._retained) > 2 * self.protected.size + 64:  # mostly nodes that were invalidated meanwhile
            live = {id(entry[2]): entry for entry in self._retained if entry[2]._queue is self.protected}
            self._retained = list(live.values())
            heapq.heapify(self._retained)
        heapq.heappush(self._retained, (node._retained_until, next(self._sequence), node))

    def _release_expired(self) -> None:
        while self._retained and self._retained[0][0] <= self._now_s:
            node = heapq.heappop(self._retained)[2]
            if node._queue is self.protected:
                self.loosen(node)
