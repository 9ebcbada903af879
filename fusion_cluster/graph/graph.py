"""The graph of one event loop: its functions, its bound, its clock and its counters."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computation import Computation
from fusion_cluster.graph.computed import Computed
from fusion_cluster.graph.context import current_computation
from fusion_cluster.graph.core import CONSISTENT, Node, mark
from fusion_cluster.graph.failure import TransientClassifier, is_memoized, is_transient
from fusion_cluster.graph.function import ComputeFunction
from fusion_cluster.graph.key import Key
from fusion_cluster.graph.retention import Retention

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphStats:
    """What a graph has done so far.

    Attributes:
        nodes: computeds in the registry now.
        hits: calls that found their computed.
        computations: computations started.
        invalidations: computeds invalidated or outdated, for whatever reason.
        evictions: computeds invalidated to keep the bound.
    """

    nodes: int
    hits: int
    computations: int
    invalidations: int
    evictions: int


class Graph:
    """All computeds of one event loop.

    It belongs to the loop that first computes in it, and to that loop's thread. Calls from elsewhere raise `UsageError`
    as soon as they have to compute or invalidate something; a hit is not checked, so that it costs nothing.

    Args:
        max_nodes: the most nodes that the registry holds at any time.
        is_transient: tells which errors may go away by themselves (they are invalidated after `transient_error_delay`).
    """

    def __init__(self, *, max_nodes: int = 1_000_000, is_transient: TransientClassifier = is_transient) -> None:
        if max_nodes < 1:
            raise UsageError("max_nodes must be at least 1", field="max_nodes")
        self.max_nodes = max_nodes
        self.is_transient = is_transient
        self.functions: dict[str, ComputeFunction] = {}
        self.retention = Retention()
        self.is_closed = False
        self._computations: dict[asyncio.Task[None], Computation] = {}
        """The computations whose tasks have not ended, abandoned ones included."""
        self._versions = itertools.count(secrets.randbits(62) | 1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id: int | None = None
        self._timer_context = Context()
        self._computation_count = 0
        self._invalidation_count = 0
        self._eviction_count = 0
        self._retired_hits = 0

    def __repr__(self) -> str:
        return f"<Graph of {len(self.functions)} functions, {self.retention.size} nodes>"

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
        """Go through the nodes of the registry, which must not change meanwhile."""
        return itertools.chain.from_iterable(function.nodes.values() for function in self.functions.values())

    @property
    def stats(self) -> GraphStats:
        """The counters now. Goes through all nodes for the hits (a hit counts on its node alone, to cost nothing)."""
        return GraphStats(
            nodes=self.retention.size,
            hits=self._retired_hits + sum(node.hits for node in self.nodes()),
            computations=self._computation_count,
            invalidations=self._invalidation_count,
            evictions=self._eviction_count,
        )

    # -- invalidation ------------------------------------------------------------------------------------------------
    def invalidate(self, node: Node[Any]) -> None:
        """Mark `node` and its transitive dependents as out of date, then tell their observers, each once.

        Raises:
            UsageError: this is not the graph's thread.
        """
        if node._state > CONSISTENT:
            return
        self._require_thread()
        _tell_observers(mark(node))

    def replace(self, old: Node[Any] | None, new: Computed[Any]) -> None:
        """Put `new`, which has its output, in the place of `old`; the observers of `old` find `new` there."""
        self._require_thread()
        new.version = self.next_version()
        new._state = CONSISTENT
        marked: list[Node[Any]] = []
        while old is not new:
            if old is not None:
                marked += mark(old)
            old = new.function.enter(new.arguments, new)
        _tell_observers(marked)

    def invalidate_all(self) -> None:
        """Invalidate every node."""
        for node in list(self.nodes()):
            self.invalidate(node)

    def validate(self) -> None:
        """Check every invariant of the graph; for tests.

        Raises:
            InvariantViolation: one does not hold.
        """
        from fusion_cluster.graph.validation import validate  # which imports this module

        validate(self)

    async def close(self) -> None:
        """Cancel all computations, invalidate everything, and wait for the computations' tasks to end."""
        self.is_closed = True
        computations = dict(self._computations)
        for computation in computations.values():
            computation.abandon()
        self.invalidate_all()
        await asyncio.gather(
            *(task for task in computations if task is not asyncio.current_task()), return_exceptions=True
        )

    # -- for computations --------------------------------------------------------------------------------------------
    def running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which from the first call on is the loop of this graph.

        Raises:
            UsageError: another loop runs.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        return loop

    def on_started(self, computation: Computation) -> None:
        """Keep a computation that has started until its task has ended."""
        self._computation_count += 1
        self._computations[computation.task] = computation
        computation.task.add_done_callback(self._on_task_done, context=self._timer_context)

    def admit(self, node: Computed[Any]) -> None:
        """Make a node that has its output consistent, for as long as its options say; or invalidate it right away."""
        delay_s = self._lifetime_s(node)
        if delay_s <= 0:
            self.invalidate(node)
            return
        node._state = CONSISTENT
        if node._dependencies is not None:
            node._dependencies = tuple(node._dependencies)
        if delay_s < math.inf:
            node._expiry = self.running_loop().call_later(delay_s, self.invalidate, node, context=self._timer_context)
        if node.function.options.min_cache_duration:
            node._retained_until = self._now_s() + node.function.options.min_cache_duration
        if node._queue is not None:
            node._queue.loosened(node)

    def next_version(self) -> int:
        """Return a version that no other computed of this graph has, and hardly one of another graph."""
        return next(self._versions) & 0xFFFF_FFFF_FFFF_FFFF

    # -- the registry ------------------------------------------------------------------------------------------------
    def make_room(self) -> None:
        """Evict what must go so that one more node can enter.

        Raises:
            UsageError: the graph is closed.
        """
        if self.is_closed:
            raise UsageError("the graph is closed")
        while self.retention.size >= self.max_nodes:
            victim = self.retention.victim(self._now_s())
            if victim is None:
                return
            self._eviction_count += 1
            self.invalidate(victim)

    def forget(self, node: Node[Any]) -> None:
        """Let go of a node that has left the registry."""
        self._invalidation_count += 1
        self._retired_hits += node.hits
        self.retention.remove(node)
        if node._expiry is not None:
            node._expiry.cancel()
            node._expiry = None

    # -- inside ------------------------------------------------------------------------------------------------------
    def _require_thread(self) -> None:
        if self._thread_id is not None and self._thread_id != threading.get_ident():
            raise UsageError("this graph belongs to another thread: use its loop's call_soon_threadsafe()")

    def _lifetime_s(self, node: Computed[Any]) -> float:
        function = node.function
        failure = node._failure
        if failure is not None and not is_memoized(failure.error):
            return 0.0
        if not function.hosting.schedules_expiry(node):
            return math.inf
        delay_s = function.options.auto_invalidation_delay
        return delay_s if failure is None else min(delay_s, function.retry_delay_s(failure.error))

    def _now_s(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and not self._loop.is_closed():
            raise UsageError("this graph belongs to another event loop")
        for computation in list(self._computations.values()):  # of a loop that is gone: they will never end
            computation.abandon()
        self._computations.clear()
        self._loop = loop
        self._thread_id = threading.get_ident()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        computation = self._computations.pop(task, None)
        if computation is not None:
            computation.on_cancelled()  # without effect unless the task was cancelled before its first step
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a computation's task failed", exc_info=error)


def _tell_observers(nodes: Iterable[Node[Any]]) -> None:
    outer = current_computation.get()
    if outer is not None:
        current_computation.set(None)
    try:
        for node in nodes:
            observers = node._observers
            if observers is None:
                continue
            node._observers = None
            told: Iterable[Any] = observers if isinstance(observers, dict) else (observers,)
            for observer in told:
                try:
                    observer(node)
                except Exception:
                    log.exception("an observer of an invalidated computed failed")
    finally:
        if outer is not None:
            current_computation.set(outer)
