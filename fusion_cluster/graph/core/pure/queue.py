"""One eviction queue: SIEVE, over a list through the nodes themselves.

SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): nodes stand in the order in which they came; a hand moves
from the oldest to the newest. A node that was hit since the hand last passed is spared once. The first node that was
not hit is evicted. A hit moves nothing, it sets a bit.

Invariant: a node is in at most one queue, the one that its `_queue` names.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar


class Queued:
    """The part of a node that a queue uses.

    Attributes:
        _queue: the queue that it is in, or None.
        _older, _newer: its neighbours there.
        _was_hit: a call has found it since the hand last passed.
    """

    __slots__ = ("_newer", "_older", "_queue", "_was_hit")

    _queue: Queue[Any] | None
    _older: Any
    _newer: Any
    _was_hit: bool


N = TypeVar("N", bound=Queued)


class Queue(Generic[N]):
    """A doubly linked list through the nodes themselves, oldest to newest, with a SIEVE hand."""

    __slots__ = ("hand", "newest", "oldest", "size")

    def __init__(self) -> None:
        self.oldest: N | None = None
        self.newest: N | None = None
        self.hand: N | None = None
        self.size = 0

    def push(self, node: N) -> None:
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

    def remove(self, node: N) -> None:
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

    def next_unvisited(self) -> N | None:
        """Move the hand to the next node that was not hit since it last passed; None when the queue is empty."""
        while (node := self.hand or self.oldest) is not None:
            if not node._was_hit:
                self.hand = node
                return node
            node._was_hit = False
            self.hand = node._newer
        return None

    def nodes(self) -> list[N]:
        """Return the nodes, oldest first."""
        nodes: list[N] = []
        node = self.oldest
        while node is not None:
            nodes.append(node)
            node = node._newer
        return nodes
