"""Nodes, the tables that they are looked up in, and the registry of one graph with the order in which it evicts them.

A node is the state of one computed. There are three queues (see `queue`). Nodes with dependents, with observers, being
computed, or retained by `min_cache_duration` are *protected*: the hand takes those that it meets out of the `evictable`
queue into the `protected` one; they come back, as the newest, when nothing protects them any more. Those of them whose
values were let go of are `paged_out`.

Invariants: each live node of a table is in exactly one queue, and no other node is in any. A node is in its function's
table if and only if it is live.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from fusion_cluster.graph.core.pure.history import COMPUTED, FAILED, PAGED_IN, PAGED_OUT, History
from fusion_cluster.graph.core.pure.queue import Queue, Queued
from fusion_cluster.graph.core.pure.states import COMPUTING, ON_ADMIT
from fusion_cluster.runtime.clock import SYSTEM_CLOCK

T_co = TypeVar("T_co", covariant=True)

EVICTABLE: Final = 0
PROTECTED: Final = 1
PAGED: Final = 2

_system_clock: Final = SYSTEM_CLOCK.monotonic


class Node(Queued, Generic[T_co]):
    """State of one computed; `Computed` adds what users and hosts call.

    The core stores `function`, `_failure`, `_computation` and `_expiry` for those above it, and asks of them only
    whether they are there.

    Attributes:
        table: where the computeds of its function are looked up.
        function: the compute function that it is a result of (`ComputeFunction`).
        table_key: what it is looked up by: the arguments, or the one argument itself (`Table.is_keyed_by_argument`).
        version: a number that no other computed of this graph has; 0 until there is an output.
        _state: COMPUTING → CONSISTENT → INVALIDATED, or COMPUTING → OUTDATED → INVALIDATED, or COMPUTING → INVALIDATED.
        _value: unset until there is a value, and when that was paged out.
        _failure: the `Failure` it ended with, or None.
        _dependencies: what it has used, or waits for now. Ordered while computing.
        _dependents: None | the only one | set.
        _observers: None | the only one | dict in order of registration.
        _computation: what runs it, between the first await and completion (`Computation`).
        _expiry: what will invalidate it, or may, and has a `cancel()`: a timer, an `Expiry`, a `Consolidation`.
        _is_retained: it is kept for some time (`min_cache_duration`).
        _is_paged_out: it is consistent, but its value was let go of; the next read computes that again.
        _weight: the bytes that it counts for.
    """

    __slots__ = (
        "_computation",
        "_dependencies",
        "_dependents",
        "_expiry",
        "_failure",
        "_is_paged_out",
        "_is_retained",
        "_observers",
        "_state",
        "_value",
        "_weight",
        "function",
        "table",
        "table_key",
        "version",
    )

    table: Table
    function: Any
    table_key: Any
    version: int
    _state: int
    _value: T_co
    _failure: Any
    _dependencies: dict[Node[Any], None] | tuple[Node[Any], ...]
    _dependents: Node[Any] | set[Node[Any]] | None
    _observers: Callable[[Any], object] | dict[Callable[[Any], object], None] | None
    _computation: Any
    _expiry: Any
    _is_retained: bool
    _is_paged_out: bool
    _weight: int

    def __init__(self, table: Table, table_key: Any) -> None:
        self.table = table
        self.function = table.function
        self.table_key = table_key
        self.version = 0
        self._state = COMPUTING
        self._failure = None
        self._dependencies = ()
        self._dependents = None
        self._observers = None
        self._computation = None
        self._expiry = None
        self._is_retained = False
        self._is_paged_out = False
        self._was_hit = False
        self._weight = 0
        self._queue = None
        self._older = None
        self._newer = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The canonical arguments."""
        return (self.table_key,) if self.table.is_keyed_by_argument else self.table_key


class Registry:
    """All live nodes of one graph.

    Attributes:
        max_nodes: the most nodes at any time; `on_full` is called before one more enters.
        size: how many there are.
        bytes: what they weigh together, as far as they have been weighed.
        invalidations: how many have left.
        on_full: makes room for one more node, or raises.
        on_fence: called by a hit after the fence time; settles what has expired, and sets the fence anew.
        on_outdated_use: called with a computing node and the node, out of date, whose output it was given.
        clock: compared with the fence time, in seconds; None: a clock of the system. Set before the fence time.
        history: what happened last.
        has_fence: the fence time is finite.
        is_in_doubt: calls take the long way, which asks whether a node is in doubt. Only while `has_fence`.
    """

    def __init__(self, max_nodes: int, history_capacity: int, first_version: int) -> None:
        self.max_nodes = max_nodes
        self.size = 0
        self.bytes = 0
        self.invalidations = 0
        self.on_full: Callable[[], object] | None = None
        self.on_fence: Callable[[], object] | None = None
        self.on_outdated_use: Callable[[Node[Any], Node[Any]], object] = _nobody_was_told
        self.clock: Callable[[], float] | None = None
        self.history = History(history_capacity)
        self._queues: tuple[Queue[Node[Any]], ...] = (Queue(), Queue(), Queue())
        self._fence_s = math.inf
        self.has_fence = False
        self.is_in_doubt = False
        self._next_version = first_version

    def next_version(self) -> int:
        """Return a version that this has not returned before; not 0."""
        self._next_version = (self._next_version + 1) & 0xFFFF_FFFF_FFFF_FFFF or 1
        return self._next_version

    # -- the fence -----------------------------------------------------------------------------------------------------
    @property
    def fence_s(self) -> float:
        """Until when hits may be answered without asking, on `clock`; infinite: always."""
        return self._fence_s

    @fence_s.setter
    def fence_s(self, fence_s: float) -> None:
        self._fence_s = fence_s
        self.has_fence = fence_s != math.inf

    def check_fence(self) -> None:
        """Call `on_fence` if the fence time has passed."""
        if self.has_fence and self.on_fence is not None and (self.clock or _system_clock)() >= self._fence_s:
            self.on_fence()

    # -- which go first ------------------------------------------------------------------------------------------------
    def victim(self) -> Node[Any] | None:
        """Return the node to evict next, without moving it; None when there is nothing to evict."""
        _, protected, paged_out = self._queues
        return self._next_evictable() or paged_out.next_unvisited() or protected.next_unvisited()

    def heaviest_victim(self) -> Node[Any] | None:
        """Return the node to evict, or whose value to page out, next so that there are fewer bytes."""
        node = self._next_evictable()
        protected = self._queues[PROTECTED]
        steps = 2 * protected.size
        while node is None and steps > 0 and (candidate := protected.next_unvisited()) is not None:
            steps -= 1
            if candidate._weight:
                node = candidate
            else:
                protected.hand = candidate._newer  # still computing: there are no bytes to gain
        return node or self._queues[PAGED].next_unvisited()

    def page_out(self, node: Node[Any]) -> None:
        """Let go of the value of a consistent node; its edges stay."""
        value = node._value  # goes last, for its finalizer may run code of users
        del node._value
        node._is_paged_out = True
        self._move(node, PAGED)
        self.history.record(PAGED_OUT, node, -1, None)
        del value

    def page_in(self, node: Node[Any], value: Any) -> None:
        """Give a paged-out node its value again."""
        node._is_paged_out = False
        self._move(node, EVICTABLE)
        self.history.record(PAGED_IN, node, -1, None)
        node._value = value  # last: what it displaces may run code of users

    def weigh(self, node: Node[Any], weight: int) -> None:
        """Note how many bytes a live node counts for."""
        self.bytes += weight - node._weight
        node._weight = weight

    def completed(self, node: Node[Any], failure: str | None) -> None:
        """Note that a node has its output: its dependencies are what they are.

        Args:
            node: it is consistent.
            failure: the name of the error's class, None for a value.
        """
        node._dependencies = tuple(node._dependencies)
        self.loosened(node)
        self.history.record(COMPUTED if failure is None else FAILED, node, -1, failure)

    def succeed(self, node: Node[Any], value: object) -> bool:
        """Make a node that is computing consistent, with this value; False, and nothing is done, if it is outdated."""
        if node._state != COMPUTING:
            return False
        node._value = value
        node._computation = None
        if node.version == 0:
            node.version = self.next_version()
        node._state = ON_ADMIT[node._state]
        self.completed(node, None)
        return True

    def retain(self, node: Node[Any]) -> None:
        """Protect a live node until `release`."""
        node._is_retained = True

    def release(self, node: Node[Any]) -> None:
        """End what `retain` began."""
        node._is_retained = False
        self.loosened(node)

    def loosened(self, node: Node[Any]) -> None:
        """Hear that one reason to protect `node` is gone: it is evictable again if that was the last."""
        if node._queue not in (None, self._queues[EVICTABLE]) and not is_protected(node):
            self._move(node, EVICTABLE)

    def queues(self) -> tuple[list[Node[Any]], ...]:
        """Return the nodes of the three queues: evictable, protected, paged out."""
        return tuple(queue.nodes() for queue in self._queues)

    # -- nodes come and go ---------------------------------------------------------------------------------------------
    def add(self, node: Node[Any]) -> None:
        """Enter a node that has come into its table, as the newest."""
        self._queues[EVICTABLE].push(node)
        self.size += 1

    def remove(self, node: Node[Any]) -> None:
        """Let go of a node that has left its table."""
        assert node._queue is not None
        node._queue.remove(node)
        self.size -= 1
        self.bytes -= node._weight
        node._weight = 0
        self.invalidations += 1

    def _next_evictable(self) -> Node[Any] | None:
        evictable, protected, paged_out = self._queues
        while (node := evictable.next_unvisited()) is not None:
            if not is_protected(node):
                return node
            evictable.remove(node)
            (paged_out if node._is_paged_out else protected).push(node)
        return None

    def _move(self, node: Node[Any], queue: int) -> None:
        assert node._queue is not None
        node._queue.remove(node)
        self._queues[queue].push(node)


class Table:
    """The live nodes of one compute function, by their arguments.

    Attributes:
        registry: the registry that it is part of.
        function: the compute function.
        is_keyed_by_argument: keys are the one argument itself, not a tuple with it.
        is_delayed: invalidations that reach its consistent nodes from what they depend on wait (`invalidation_delay`).
        hits: how many calls have found their node.
        nodes_by_key: the nodes.
    """

    def __init__(
        self,
        registry: Registry,
        function: Any,
        node_type: type[Node[Any]],
        *,
        is_keyed_by_argument: bool,
        is_delayed: bool,
    ) -> None:
        self.registry = registry
        self.function = function
        self.is_keyed_by_argument = is_keyed_by_argument
        self.is_delayed = is_delayed
        self.hits = 0
        self._node_type = node_type
        self.nodes_by_key: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.nodes_by_key)

    def nodes(self) -> list[Any]:
        """Return the nodes."""
        return list(self.nodes_by_key.values())

    def sample(self, number: int) -> Any:
        """Return a node, which a number from 0 on chooses; None if there are no nodes. Random ones choose at random."""
        return next(islice(self.nodes_by_key.values(), number % (len(self.nodes_by_key) or 1), None), None)

    def get(self, table_key: Any) -> Any:
        """Return the live node of a key, or None. No hit is counted."""
        return self.nodes_by_key.get(table_key)

    def hit(self, table_key: Any) -> Any:
        """Return the live node of a key, or None; count the hit.

        Raises:
            TypeError: the key is unhashable.
        """
        node = self.nodes_by_key.get(table_key)
        if node is not None:
            self.hits += 1
            node._was_hit = True
        return node

    def lookup(self, table_key: Any) -> Any:
        """Return the live node of a key, a new one if there is none; count a hit."""
        node = self.hit(table_key)
        return self.enter(self._node_type(self, table_key)) if node is None else node

    def enter(self, node: Any) -> Any:
        """Enter a new node; return it, or the one that has come first while room was made."""
        registry = self.registry
        for _ in range(3):  # what makes room, and comparisons of keys, may let others in
            if registry.size >= registry.max_nodes and registry.on_full is not None:
                registry.on_full()
            present = self.nodes_by_key.get(node.table_key)
            if present is not None:
                return present
            if registry.size < registry.max_nodes:
                break
        present = self.nodes_by_key.setdefault(node.table_key, node)
        if present is node:
            registry.add(node)
        return present

    def remove(self, node: Node[Any]) -> None:
        """Take out a node that is not live any more (called by `mark` alone)."""
        del self.nodes_by_key[node.table_key]
        self.registry.remove(node)


def _nobody_was_told(user: Node[Any], used: Node[Any]) -> None:
    raise TypeError("the registry has no on_outdated_use")


def is_protected(node: Node[Any]) -> bool:
    """Tell whether others are evicted before `node`."""
    return (
        node._dependents is not None
        or node._observers is not None
        or node._computation is not None
        or node._is_retained
    )
