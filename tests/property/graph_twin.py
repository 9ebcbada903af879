"""One of the two cores of the graph: what can be seen of it, in terms of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from fusion_cluster.graph.core.pure.history import MAX_SEARCHED
from fusion_cluster.graph.core.pure.registry import EVICTABLE
from fusion_cluster.graph.core.pure.states import CONSISTENT, INVALIDATED

FIRST_VERSION: Final = 2**64 - 4
"""So that versions begin anew soon."""

UNTOLD: Final = "not told apart"
"""Stands for what hangs on the order in which one invalidation has marked its nodes."""


class Refused(Exception):
    """What the hook for full registries raises when it is told to."""


class Function:
    """Stands for a compute function, of which the cores know next to nothing."""

    def __init__(self, name: str, twin: Twin) -> None:
        self.name = name
        self.graph = twin


class Twin:
    """A registry with its tables, made by one core.

    Args:
        core: `pure` or `_speed`.
        max_nodes: the bound.
        history: how many events are kept.
        chooses_itself: tells whether victims are those that the core chooses; if not they are the oldest by label.

    Attributes:
        nodes: all nodes that anybody has seen, by label; None where it was forgotten.
        may_hands_differ: where the hand of the evictable nodes stands hangs on the order of an invalidation.
        orders: the evictable nodes in order, whenever one was about to be evicted in the last step after another has
            set several free.
    """

    def __init__(self, core: Any, max_nodes: int, history: int, chooses_itself: Callable[[], bool]) -> None:
        self.core = core
        self.registry = core.Registry(max_nodes, history, FIRST_VERSION)
        self.registry.on_full = self._make_room
        self.tables = [
            core.Table(
                self.registry,
                Function(name, self),
                core.Node,
                is_keyed_by_argument=name in ("keyed", "delayed"),
                is_delayed=name == "delayed",
            )
            for name in ("keyed", "tuples", "typed", "delayed")
        ]
        self.nodes: list[Any] = []
        self.labels: dict[int, int] = {}
        self.refuses = False
        self.may_hands_differ = False
        self.orders: list[list[int | None]] = []
        self._chooses_itself = chooses_itself
        self._has_hand = False
        self._has_freed_several = False
        self._searched = min(history, MAX_SEARCHED)
        self._seen_events = 0
        self._outdated: set[int] = set()
        self._invalidations: dict[tuple[int, int], tuple[Any, int, int]] = {}

    # -- what the core asks for ----------------------------------------------------------------------------------------
    def _make_room(self) -> None:
        if self.refuses:
            self.refuses = False
            raise Refused
        while self.registry.size >= self.registry.max_nodes:
            if self._has_freed_several and self._chooses_itself():
                self.orders.append([self.labels.get(id(node)) for node in self.registry.queues()[EVICTABLE]])
            chooses_itself = self._chooses_itself() and not self.may_hands_differ
            self.mark(self.victim() if chooses_itself else self.oldest(), "evicted")

    def outdate_user(self, user: Any, used: Any) -> None:
        self.mark(user, self.cause_of(used) or "forgotten")

    # -- invalidations -------------------------------------------------------------------------------------------------
    def victim(self, *, is_heaviest: bool = False) -> Any:
        """Let the core choose the next victim: its hand stays there."""
        node = self.registry.heaviest_victim() if is_heaviest else self.registry.victim()
        self._has_hand = True
        return node

    def mark(self, node: Any, cause: str) -> Any:
        """Invalidate a node, and note what the order of marking may have done to that of eviction."""
        evictable, *others = self.registry.queues()
        count = self.registry.invalidations
        touched = self.core.mark(node, cause)
        queues = self.registry.queues()
        freed = set(map(id, queues[EVICTABLE])).intersection(map(id, chain(*others)))
        if len(freed) > 1:
            self._has_freed_several = True
        is_newest_gone = bool(evictable) and id(evictable[-1]) not in map(id, chain(*queues))
        if self._has_hand and is_newest_gone and freed and self.registry.invalidations > count + 1:
            self.may_hands_differ = True
        return touched

    # -- the history ---------------------------------------------------------------------------------------------------
    def cause_of(self, node: Any) -> Any:
        """Return by what the key of a node was invalidated last, None if that never was or is forgotten.

        `UNTOLD` if some of the events of the step that has done it are forgotten, or too old to be looked at, and some
        are not: which ones hangs on their order.
        """
        event = self.registry.history.invalidation_of(node)
        _, first, end = self._invalidations.get(_place(node), (None, 0, 0))
        if first < self._seen_events - self._searched < end:
            return UNTOLD
        return None if event is None else event[1]

    def clear_history(self) -> None:
        """Forget all events."""
        self.registry.history.clear()
        self._invalidations.clear()

    def end_step(self, first: int) -> None:
        """Note which events a step has made, the first of them by its number, if it has made nodes out of date."""
        self._has_freed_several = False
        self.orders.clear()
        for label, node in enumerate(self.nodes):
            if node is not None and node._state > CONSISTENT and label not in self._outdated:
                self._outdated.add(label)
                self._invalidations[_place(node)] = node.table_key, first, self._seen_events

    # -- nodes by label ------------------------------------------------------------------------------------------------
    def label(self, node: Any) -> int | None:
        """Return the number of a node, a new one if it has none."""
        if node is None:
            return None
        label = self.labels.get(id(node))
        if label is None:
            label = self.labels[id(node)] = len(self.nodes)
            self.nodes.append(node)
        return label

    def oldest(self) -> Any:
        return next(node for node in self.nodes if node is not None and node._state <= CONSISTENT)

    def forget(self, label: int) -> None:
        """Let go of a node that is out of date, unless it computes on."""
        node = self.nodes[label]
        if node is not None and node._state == INVALIDATED:
            del self.labels[id(node)]
            self.nodes[label] = None

    # -- what can be seen ----------------------------------------------------------------------------------------------
    def of_node(self, label: int) -> Any:
        """Return all that can be seen of a node."""
        node = self.nodes[label]
        if node is None:
            return None
        return (
            node._state,
            node.version,
            getattr(node, "_value", "none"),
            node._failure,
            node._computation,
            node._observers,
            node._expiry,
            node._is_retained,
            node._is_paged_out,
            node._was_hit,
            node._weight,
            node.table.get(node.table_key) is node,
            repr(node.arguments),
            self.core.has_dependents(node),
            sorted(map(self._known, self.core.dependents_of(node))),
            sorted(map(self._known, self.core.dependencies_of(node))),
        )

    def counters(self) -> Any:
        registry = self.registry
        tables = [(len(table), table.hits, sorted(map(self._known, table.nodes()))) for table in self.tables]
        return registry.size, registry.bytes, registry.invalidations, tables

    def queues(self) -> list[list[int]]:
        return [[self._known(node) for node in queue] for queue in self.registry.queues()]

    def new_events(self) -> tuple[int, Counter[Any]]:
        """Return the number of the next event, and what the events since the last call say, in any order.

        Nothing of what they say if some of them are forgotten already: which ones hangs on their order.
        """
        events = [event for event in self.registry.history.events() if event[0] >= self._seen_events]
        numbers = [event[0] for event in events]
        assert numbers == sorted(numbers)
        if numbers and numbers[0] > self._seen_events:
            events = []
        said = Counter(
            (kind, function.name, repr(key), version, via == -1, cause)
            for _, kind, function, key, version, via, cause, *_ in events
        )
        first, self._seen_events = self._seen_events, numbers[-1] + 1 if numbers else self._seen_events
        self.end_step(first)
        return self._seen_events, said

    def _known(self, node: Any) -> int:
        return self.labels[id(node)]


def _place(node: Any) -> tuple[int, int]:
    return id(node.table), id(node.table_key)
