"""The graph of one event loop: its functions, its bound, its clock and its counters."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from fusion_cluster.errors import UsageError
from fusion_cluster.failures.failure import TransientClassifier, error_name, is_transient
from fusion_cluster.graph.computed import Computed, ComputeFunction
from fusion_cluster.graph.computing.computation import Computation
from fusion_cluster.graph.computing.delay import postpone
from fusion_cluster.graph.computing.home_loop import HomeLoop
from fusion_cluster.graph.computing.lifetime import end_after, lifetime_of, note_brief_output
from fusion_cluster.graph.computing.retention import NODE_BYTES, ByteBound, SizeOf, TimedRetention, estimate_bytes
from fusion_cluster.graph.computing.surroundings import Guard
from fusion_cluster.graph.core.doubt import Doubt
from fusion_cluster.graph.core.fence import Fence
from fusion_cluster.graph.core.hot_path import COMPUTING, CONSISTENT, OUTDATED, Node, Registry, mark
from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.core.observers import Observers
from fusion_cluster.graph.core.pure.history import COMPUTED, DELAYED
from fusion_cluster.graph.core.pure.states import ON_ADMIT
from fusion_cluster.graph.core.stats import GraphStats
from fusion_cluster.graph.guarded import GuardedComputed, Marking, marking
from fusion_cluster.graph.validation import validate
from fusion_cluster.graph.why.cause import (
    CLOSED,
    LONG_OLD,
    LOOP_GONE,
    OVERTAKEN,
    REPLACED,
    UNKNOWN,
    UNSETTLED,
    Cause,
    evicted_by,
)
from fusion_cluster.graph.why.explanation import Explanation, StoryEntry
from fusion_cluster.graph.why.recall import explain, tell
from fusion_cluster.quantities import as_count, as_number
from fusion_cluster.runtime import SYSTEM, SYSTEM_CLOCK, Runtime

DEFAULT_HISTORY: Final = 4096
"""How many of its last events a graph keeps by default."""

_get_thread_id: Final = threading.get_ident


class Graph(HomeLoop):
    """All computeds of one event loop.

    It belongs to the loop that first computes in it, and to that loop's thread. Calls from elsewhere raise `UsageError`
    as soon as they have to compute or invalidate something; a hit is not checked, so that it costs nothing.

    Close it when it is done with: a large graph holds itself alive, since Python's garbage collector does not look into
    the registry of more than ten thousand nodes (it would stop the process for as long as that takes).

    Args:
        max_nodes: the most nodes that the registry holds at any time.
        max_bytes: the most bytes that nodes and values may take together, by estimate. First the values of nodes that
            others depend on are let go of ("paged out"); they are computed again when they are read.
        size_of: estimates the bytes of a value.
        is_transient: tells which errors may go away by themselves (they are invalidated after `transient_error_delay`).
        history: how many of the last events are kept, for `why` and `story`; 0 keeps none. One is noted for each
            computation, and for each computed that is invalidated; it takes 64 bytes and keeps its key alive.
        guard: what looks after the results, if anything does.
        name: what it belongs to, in words, for errors.
        runtime: the clock by which its leases end and its events are dated, its random numbers, its tasks.

    Attributes:
        on_joined: called with a node that computes, when another computation has begun to wait for it as well.
    """

    def __init__(
        self,
        *,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        size_of: SizeOf = estimate_bytes,
        is_transient: TransientClassifier = is_transient,
        history: int = DEFAULT_HISTORY,
        guard: Guard | None = None,
        name: str = "the graph",
        runtime: Runtime = SYSTEM,
    ) -> None:
        super().__init__(name, runtime)
        self.max_bytes = max_bytes = as_number("max_bytes", max_bytes, least=NODE_BYTES)
        self.max_nodes = max_nodes = as_count("max_nodes", max_nodes)
        self.size_of = size_of
        self.is_transient = is_transient
        self.guard = guard
        self.node_type: type[Computed[Any]] = Computed if guard is None else GuardedComputed
        self._mark: Marking = mark if guard is None else marking(guard)
        self.functions: dict[str, ComputeFunction] = {}
        self.registry = Registry(max_nodes, as_count("history", history, least=0), runtime.entropy.bits(62))
        self.registry.on_full = self._make_room
        self.registry.on_outdated_use = self.outdate_user
        self.registry.history.home = weakref.ref(self)
        wall = runtime.clock.wall
        self.registry.history.clock = None if wall is SYSTEM_CLOCK.wall else wall
        self.observers = Observers()
        self.fence = Fence(
            self.registry,
            self.observers,
            is_in_own_thread=self.is_in_own_thread,
            on_unsettled=partial(self.invalidate_all, UNSETTLED),
            clock=runtime.clock.monotonic,
        )
        self.doubt = Doubt(self.registry, self.observers, is_in_own_thread=self.is_in_own_thread)
        self.on_joined: Callable[[Node[Any]], None] | None = None
        self.computation_count = 0
        self._retention = TimedRetention(self.registry)
        self._bytes: ByteBound | None = None
        if max_bytes < math.inf:
            evict = partial(self._evict, cause=evicted_by("max_bytes", max_bytes))
            self._bytes = ByteBound(self.registry, max_bytes, size_of, evict)
        self._computations: dict[asyncio.Task[None], Computation] = {}
        """The computations whose tasks have not ended, abandoned ones included; not those that ended at once."""
        self._eviction_count = 0

    def __repr__(self) -> str:
        return f"<Graph of {len(self.functions)} functions, {self.registry.size} nodes>"

    # -- what is in it -----------------------------------------------------------------------------------------------
    def add(self, function: ComputeFunction) -> None:
        """Enter a compute function.

        Raises:
            UsageError: there is one of this name.
        """
        if function.name in self.functions:
            raise UsageError(f"{function.name} is hosted twice")
        self.functions[function.name] = function

    def peek(self, key: Key) -> Computed[Any] | None:
        """Return the consistent computed of a key, if there is one; computes nothing."""
        function = self.functions.get(f"{key.service}.{key.method}")
        return None if function is None else function.peek(key.arguments)

    def nodes(self) -> Iterator[Computed[Any]]:
        """Go through the live nodes."""
        return itertools.chain.from_iterable(function.all_nodes() for function in self.functions.values())

    @property
    def stats(self) -> GraphStats:
        """The counters now."""
        return GraphStats(
            nodes=self.registry.size,
            bytes=self.registry.bytes if self.max_bytes < math.inf else None,
            hits=sum(part.table.hits for function in self.functions.values() for part in function.all_functions()),
            computations=self.computation_count,
            invalidations=self.registry.invalidations,
            evictions=self._eviction_count,
        )

    # -- invalidation ------------------------------------------------------------------------------------------------
    def invalidate(self, node: Node[Any], cause: Cause = UNKNOWN) -> None:
        """Mark `node` and its transitive dependents as out of date, then tell their observers, each once.

        One that is consistent, and what depends on it, is marked later, or not at all, if its options say so.

        Raises:
            UsageError: this is not the graph's thread.
        """
        state = node._state
        if state > CONSISTENT:
            return
        if self.thread_id != _get_thread_id():
            self._require_thread(node)
        if node.table.is_delayed and postpone(node, cause):
            self.registry.history.record(DELAYED, node, -1, cause)
            return
        touched = self._mark(node, cause)
        if touched is not None:
            self._after_mark(touched, cause)

    def invalidate_now(self, node: Node[Any], cause: Cause = UNKNOWN) -> None:
        """As `invalidate`, but without delay: for what is over, and not just said to have changed.

        Raises:
            UsageError: this is not the graph's thread.
        """
        self._require_thread(node)
        self._invalidate_now(node, cause)

    def outdate_user(self, user: Node[Any], used: Node[Any]) -> None:
        """Mark `user`, which computes and is given the output of `used`, as out of date, because that is."""
        if user._state > CONSISTENT:
            return
        self._require_thread()
        history = used.table.registry.history
        via, cause = history.invalidation_of(used) or (-1, LONG_OLD)
        touched = self._mark(user, cause, via, None if history is self.registry.history else history.home)
        if touched is not None:
            self._after_mark(touched, cause)

    def replace(self, old: Node[Any] | None, new: Computed[Any], cause: Cause = REPLACED) -> None:
        """Put `new`, which has its output, in the place of `old`; the observers of `old` find `new` there."""
        self._require_thread()
        new.version = self.registry.next_version()
        new._state = ON_ADMIT[new._state]
        concerned: list[tuple[list[Any], list[Any]]] = []
        try:
            while old is not new:
                if old is not None and (touched := self._mark(old, cause)) is not None:
                    concerned.append(touched)
                    self._settle(touched[0])
                old = new.table.enter(new)
            self.registry.history.record(COMPUTED, new, -1, cause)
        finally:
            for nodes, delayed in concerned:
                self._tell(nodes, delayed, cause)
        if new._state == CONSISTENT:
            self._weigh(new, is_awaited=False)

    def invalidate_all(self, cause: Cause = UNKNOWN) -> None:
        """Invalidate every node, without delay."""
        self._require_thread()
        for node in list(self.nodes()):
            self._invalidate_now(node, cause)

    # -- why ---------------------------------------------------------------------------------------------------------
    def why(self, what: Key | Computed[Any]) -> Explanation | None:
        """Tell why a key, or the very computed given, is out of date, or was when it was invalidated last.

        Returns:
            None if the graph knows nothing of it: it was never asked for, or so long ago that it is forgotten.
        """
        found = self._resolve(what)
        return None if found is None else explain(*found, what if isinstance(what, Computed) else None)

    def story(self, what: Key | Computed[Any]) -> list[StoryEntry]:
        """Tell what has happened to a key, oldest first, as far as the graph's `history` goes back."""
        found = self._resolve(what)
        return [] if found is None else tell(*found)

    def _resolve(self, what: Key | Computed[Any]) -> tuple[ComputeFunction, Any] | None:
        """Return the function and the table key of what somebody asks about."""
        if isinstance(what, Computed):
            return what.function, what.table_key
        function = self.functions.get(f"{what.service}.{what.method}")
        return None if function is None else (function.of_reader(), function.table_key(what.arguments))

    # -- for tests, and the end --------------------------------------------------------------------------------------
    def validate(self) -> None:
        """Check every invariant of the graph; for tests.

        Raises:
            InvariantViolation: one does not hold.
        """
        validate(
            self.functions.values(),
            self.registry,
            self._computations.values(),
            max_nodes=self.max_nodes,
            max_bytes=self.max_bytes,
        )

    async def close(self) -> None:
        """Cancel all computations, invalidate everything, and wait for the computations' tasks to end."""
        self.is_closed = True
        self.registry.max_nodes = 0  # so that a node that wants to enter comes to `_make_room`
        computations = dict(self._computations)
        for computation in computations.values():
            computation.abandon(CLOSED)
        self.invalidate_all(CLOSED)
        own = asyncio.current_task()
        if others := [task for task in computations if task is not own]:
            await asyncio.wait(others)

    def on_forked(self) -> None:
        """This is a copy of a graph of the parent process: nobody keeps it up to date, so it serves nothing."""
        self.is_forked = True
        self.fence.refuse(self.require_usable)

    # -- for computations --------------------------------------------------------------------------------------------
    def on_pending(self, computation: Computation, task: asyncio.Task[None]) -> None:
        """Keep a computation that did not end at once until its task has ended."""
        self._computations[task] = computation
        task.add_done_callback(self._on_task_done, context=self.timer_context)

    def admit(self, node: Computed[Any]) -> None:
        """Make a node that has its output consistent, for as long as its options say; or invalidate it right away."""
        failure = node._failure
        options = node.function.options
        if failure is not None or node.function.has_lifetime:
            delay_s, cause = lifetime_of(node)
            if node._state != COMPUTING:  # a classifier, which is code of users, has invalidated it
                note_brief_output(node, OVERTAKEN)
                return
            if delay_s <= 0:
                note_brief_output(node)
                self._invalidate_now(node, cause)
                return
            if delay_s < math.inf:
                end_after(node, delay_s, cause, self.starter().loop)
            if options.min_cache_duration:
                self._retention.retain(node, self._now_s() + options.min_cache_duration)
        node._state = ON_ADMIT[node._state]
        self.registry.completed(node, error_name(failure))
        if self._bytes is not None:
            self._weigh(node, is_awaited=self._is_awaited())

    def page_in(self, node: Computed[Any], value: object) -> None:
        """Give a node whose value was paged out that value again."""
        self.registry.page_in(node, value)
        self._weigh(node, is_awaited=self._is_awaited())

    # -- inside ------------------------------------------------------------------------------------------------------
    def _invalidate_now(self, node: Node[Any], cause: Cause) -> None:
        touched = self._mark(node, cause)
        if touched is not None:
            self._after_mark(touched, cause)

    def _after_mark(self, touched: tuple[list[Any], list[Any]], cause: Cause) -> None:
        self._settle(touched[0])
        self._tell(*touched, cause)

    def _settle(self, nodes: list[Any]) -> None:
        """Let go of what marked nodes, of this graph and of others, have had besides edges. Calls no code of users."""
        for node in nodes:
            expiry = node._expiry
            if expiry is not None:
                node._expiry = None
                expiry.cancel()
            if node._state == OUTDATED:
                node.function.on_outdated(node)

    def _tell(self, nodes: list[Any], delayed: list[Any], cause: Cause) -> None:
        """Go on to the delayed ones that may not wait, then tell the observers of all that are marked."""
        while delayed:
            node = delayed.pop()
            if not postpone(node, cause) and (touched := self._mark(node, cause)) is not None:
                self._settle(touched[0])
                nodes += touched[0]
                delayed += touched[1]
        self.observers.tell(nodes)

    # -- the bounds --------------------------------------------------------------------------------------------------
    def _make_room(self) -> None:
        """Evict what must go so that one more node can enter.

        Raises:
            UsageError: the graph is closed.
        """
        self.require_usable()
        self._retention.release_expired(self._now_s())
        while self.registry.size >= self.max_nodes:
            victim = self.registry.victim()
            if victim is None:
                return
            self._evict(victim, evicted_by("max_nodes", self.max_nodes))

    def _weigh(self, node: Computed[Any], *, is_awaited: bool) -> None:
        """Count the bytes of a node that has been given its output."""
        if self._bytes is not None:
            self._retention.release_expired(self._now_s())
            self._bytes.admit(node, is_awaited=is_awaited)

    def _is_awaited(self) -> bool:
        """Tell whether somebody sleeps until the present task's computation has ended."""
        task: Any = asyncio.current_task()
        computation = self._computations.get(task)  # not one that ends in its first step
        return computation is not None and any(waiter.on_done is not None for waiter in computation.waiters)

    def _evict(self, node: Node[Any], cause: Cause) -> None:
        self._eviction_count += 1
        self._invalidate_now(node, cause)

    # -- its loop ----------------------------------------------------------------------------------------------------
    def _on_loop_gone(self) -> None:
        for computation in list(self._computations.values()):  # they will never end
            computation.abandon(LOOP_GONE)
        self._computations.clear()
        for node in list(self.nodes()):
            if node._expiry is not None:  # neither will what was to invalidate them
                self._invalidate_now(node, LOOP_GONE)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        computation = self._computations.pop(task, None)
        if computation is not None:
            computation.on_task_ended(task)
