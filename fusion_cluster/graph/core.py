"""The hot path: a node, its edges, the hit, capture and invalidation. All of it, and nothing else.

This module has no IO, knows no event loop and imports next to nothing of the graph, so that a C module can take its
place. Its surface: `Node`, the four states, `capture`, `link`, `settle`, `unlink`, `unlink_all`, `mark`, `make_call`.

Invariants (checked by `Graph.validate`):

1. A node is in its function's registry if and only if it is *live*: CONSISTENT, or COMPUTING. So a hit checks no state.
2. `dependent in node._dependents` if and only if both are live and `dependent` has used `node`, or waits for it now.
   Outdating a node therefore reaches whoever will be given its old value, also before they have it.
3. A node that is not live has no edges.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from fusion_cluster.graph.context import current_computation
from fusion_cluster.graph.signature import REQUIRED

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from fusion_cluster.graph.computation import Computation
    from fusion_cluster.graph.failure import Failure
    from fusion_cluster.graph.function import ComputeFunction
    from fusion_cluster.graph.retention import Queue

T_co = TypeVar("T_co", covariant=True)

COMPUTING: Final = 0
CONSISTENT: Final = 1
OUTDATED: Final = 2
"""Still computing, but what it reads has changed: not in the registry, and INVALIDATED when it completes."""
INVALIDATED: Final = 3

_get_current: Final = current_computation.get


class Node(Generic[T_co]):
    """State of one computed; `Computed` adds what users and hosts call.

    Attributes:
        function: the compute function it is a result of.
        arguments: the canonical arguments.
        version: a number that no other computed of this graph has; 0 until there is an output.
        hits: how often a call found it.
        _state: COMPUTING → CONSISTENT → INVALIDATED, or COMPUTING → OUTDATED → INVALIDATED, or COMPUTING → INVALIDATED.
        _value: unset until there is a value.
        _failure: the error it ended with, or None.
        _dependencies: None | list while computing | tuple afterwards. What it has used, each once.
        _dependents: None | the only one | set.
        _observers: None | the only one | dict in order of registration.
        _computation: what runs it, between the first await and completion.
        _expiry: the timer that will invalidate it.
        _queue, _older, _newer, _swept_hits, _retained_until: its place in the eviction order (`retention`).
    """

    __slots__ = (
        "_computation",
        "_dependencies",
        "_dependents",
        "_expiry",
        "_failure",
        "_newer",
        "_observers",
        "_older",
        "_queue",
        "_retained_until",
        "_state",
        "_swept_hits",
        "_value",
        "arguments",
        "function",
        "hits",
        "version",
    )

    function: ComputeFunction
    arguments: tuple[Any, ...]
    version: int
    hits: int
    _state: int
    _value: T_co
    _failure: Failure | None
    _dependencies: list[Node[Any]] | tuple[Node[Any], ...] | None
    _dependents: Node[Any] | set[Node[Any]] | None
    _observers: Callable[[Any], object] | dict[Callable[[Any], object], None] | None
    _computation: Computation | None
    _expiry: TimerHandle | None
    _queue: Queue | None
    _older: Node[Any] | None
    _newer: Node[Any] | None
    _swept_hits: int
    _retained_until: float

    def __init__(self, function: ComputeFunction, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.version = 0
        self.hits = 0
        self._state = COMPUTING
        self._failure = None
        self._dependencies = None
        self._dependents = None
        self._observers = None
        self._computation = None
        self._expiry = None
        self._queue = None
        self._older = None
        self._newer = None
        self._swept_hits = 0
        self._retained_until = 0.0

    def __await__(self) -> Generator[Any, Any, T_co]:
        dependent = _get_current()
        try:
            value = self._value
        except AttributeError:
            pass
        else:
            if dependent is not None:
                capture(dependent, self)
            return value
        try:
            return (yield from self._use())
        finally:
            del self  # an error's traceback holds this frame, the frame must not hold the error's node

    def _use(self) -> Generator[Any, Any, T_co]:
        """Give the output to the current computation, after waiting for it if need be."""
        raise NotImplementedError


# -- edges -----------------------------------------------------------------------------------------------------------
def capture(dependent: Node[Any], node: Node[Any]) -> None:
    """Record that `dependent`, the current computation, has been given the output of `node`.

    Nothing is recorded once `dependent` has completed (tasks may outlive the body that made them), or is outdated.
    """
    if dependent._state != COMPUTING:
        return
    if node._state == CONSISTENT:
        if link(dependent, node):
            _add_dependency(dependent, node)
    elif node._state != COMPUTING:
        dependent.function.graph.invalidate(dependent)


def link(dependent: Node[Any], node: Node[Any]) -> bool:
    """Add the edge by which an invalidation of `node` reaches `dependent`; tell whether it is new. Both are live."""
    dependents = node._dependents
    if dependents is None:
        node._dependents = dependent
    elif type(dependents) is set:
        if dependent in dependents:
            return False
        dependents.add(dependent)
    elif dependents is dependent:
        return False
    else:
        node._dependents = {dependents, dependent}  # type: ignore[arg-type]
    return True


def _add_dependency(dependent: Node[Any], node: Node[Any]) -> None:
    dependencies = dependent._dependencies
    if dependencies is None:
        dependent._dependencies = [node]
    else:
        dependencies.append(node)  # type: ignore[union-attr]


def settle(dependent: Node[Any], node: Node[Any]) -> None:
    """Make the edge of a computation that waited for `node` one of a computation that has used it."""
    if dependent._state == COMPUTING and node._state <= CONSISTENT:
        _add_dependency(dependent, node)


def unlink(dependent: Node[Any], node: Node[Any]) -> None:
    """Remove the edge by which an invalidation of `node` reaches `dependent`, if there is one."""
    dependents = node._dependents
    if dependents is dependent:
        node._dependents = None
    elif type(dependents) is set:
        dependents.discard(dependent)
        if dependents:
            return
        node._dependents = None
    else:
        return
    if node._queue is not None:
        node._queue.loosened(node)


def unlink_all(dependent: Node[Any], nodes: Iterable[Node[Any]]) -> None:
    """Remove the edges from all of `nodes` to `dependent`."""
    for node in nodes:
        unlink(dependent, node)


# -- invalidation ----------------------------------------------------------------------------------------------------
def mark(root: Node[Any]) -> list[Node[Any]]:
    """Mark `root` and its transitive dependents as out of date; return them all, `root` first.

    Calls no code of users: observers are told by the caller, when the whole subgraph is marked, so that none of them
    can read a dependent that is not marked yet. A loop, no recursion. The list keeps each node alive until all are
    marked.
    """
    marked = []
    pending = [root]
    for node in pending:
        state = node._state
        if state > CONSISTENT:
            continue
        computation = node._computation
        node._state = OUTDATED if computation is not None else INVALIDATED
        marked.append(node)
        dependents = node._dependents
        if dependents is not None:
            node._dependents = None
            if type(dependents) is set:
                pending.extend(dependents)
            else:
                pending.append(dependents)  # type: ignore[arg-type]
        dependencies = node._dependencies
        if dependencies is not None:
            node._dependencies = None
            unlink_all(node, dependencies)
        if computation is not None and computation.waits_for is not None:
            unlink_all(node, computation.waits_for)
        node.function.drop(node)
    return marked


# -- the hit ---------------------------------------------------------------------------------------------------------
def make_call(function: ComputeFunction) -> Callable[..., Node[Any]]:
    """Return the function that a bound compute method is: arguments in, node out.

    The raw arguments are looked up as they are. That is right because equal arguments are one key (`arguments`); all
    else, defaults, keywords, wrong calls, is not found and takes the way through `function.find`.
    """
    nodes = function.nodes
    find = function.find

    if function.is_keyed_by_argument:

        def call_with_one(argument: Any = REQUIRED, /, *rest: Any, **named: Any) -> Node[Any]:
            if rest or named:
                return find(rest if argument is REQUIRED else (argument, *rest), named)
            try:
                node = nodes[argument]
            except (KeyError, TypeError):
                return find(() if argument is REQUIRED else (argument,), named)
            node.hits += 1
            return node

        return call_with_one

    def call(*args: Any, **named: Any) -> Node[Any]:
        if named:
            return find(args, named)
        try:
            node = nodes[args]
        except (KeyError, TypeError):
            return find(args, named)
        node.hits += 1
        return node

    return call
