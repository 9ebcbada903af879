"""A node: the state of one computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fusion_cluster.graph.core.pure.states import COMPUTING

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from fusion_cluster.bodies.expiry import Expiry
    from fusion_cluster.failures.failure import Failure
    from fusion_cluster.graph.computing.computation import Computation
    from fusion_cluster.graph.computing.consolidation import Consolidation
    from fusion_cluster.graph.core.pure.registry import Queue, Table
    from fusion_cluster.graph.function import ComputeFunction

T_co = TypeVar("T_co", covariant=True)


class Node(Generic[T_co]):
    """State of one computed; `Computed` adds what users and hosts call.

    Attributes:
        table: where the computeds of its function are looked up.
        function: the compute function that it is a result of.
        table_key: what it is looked up by: the arguments, or the one argument itself (`Table.is_keyed_by_argument`).
        version: a number that no other computed of this graph has; 0 until there is an output.
        _state: COMPUTING → CONSISTENT → INVALIDATED, or COMPUTING → OUTDATED → INVALIDATED, or COMPUTING → INVALIDATED.
        _value: unset until there is a value, and when that was paged out.
        _failure: the error it ended with, or None.
        _dependencies: what it has used, or waits for now. Ordered while computing.
        _dependents: None | the only one | set.
        _observers: None | the only one | dict in order of registration.
        _computation: what runs it, between the first await and completion.
        _expiry: what will invalidate it, or may: a timer, what its body has said, or its consolidation.
        _is_retained: it is kept for some time (`min_cache_duration`).
        _is_paged_out: it is consistent, but its value was let go of; the next read computes that again.
        _was_hit: a call has found it since the hand of the eviction queue last passed.
        _weight: the bytes that it counts for.
        _queue, _older, _newer: its place in the eviction order (`registry`).
    """

    __slots__ = (
        "_computation",
        "_dependencies",
        "_dependents",
        "_expiry",
        "_failure",
        "_is_paged_out",
        "_is_retained",
        "_newer",
        "_observers",
        "_older",
        "_queue",
        "_state",
        "_value",
        "_was_hit",
        "_weight",
        "function",
        "table",
        "table_key",
        "version",
    )

    table: Table
    function: ComputeFunction
    table_key: Any
    version: int
    _state: int
    _value: T_co
    _failure: Failure | None
    _dependencies: dict[Node[Any], None] | tuple[Node[Any], ...]
    _dependents: Node[Any] | set[Node[Any]] | None
    _observers: Callable[[Any], object] | dict[Callable[[Any], object], None] | None
    _computation: Computation | None
    _expiry: TimerHandle | Expiry | Consolidation | None
    _is_retained: bool
    _is_paged_out: bool
    _was_hit: bool
    _weight: int
    _queue: Queue | None
    _older: Node[Any] | None
    _newer: Node[Any] | None

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
