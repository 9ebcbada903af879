"""A computed while it is being computed: its task, who waits for it, and whom it waits for.

One computation runs a node's body in a task of its own, so that no single caller's cancellation ends it. Whoever wants
the output is a *waiter*; when the last one leaves, the computation is abandoned: its node leaves the registry at that
moment, so that a newcomer starts anew instead of joining a computation that is being cancelled.

`waits_for` of all computations together is the wait-for graph. A wait that would close a cycle in it is refused with
`CircularDependencyError`, so no set of computations can wait for each other for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.graph.context import current_computation
from fusion_cluster.graph.core import COMPUTING, INVALIDATED, OUTDATED, Node, capture, link, settle, unlink, unlink_all
from fusion_cluster.graph.failure import Failure

if TYPE_CHECKING:
    from fusion_cluster.graph.computed import Computed

log = logging.getLogger(__name__)


class Waiter:
    """One party that waits for a computation to end.

    Attributes:
        computation: what it waits for; None when that had ended before.
        dependent: the computation on whose behalf it waits, if any.
        on_done: called once with the node, when the computation ends; not after `leave`.
    """

    __slots__ = ("computation", "dependent", "on_done")

    def __init__(
        self, computation: Computation | None, dependent: Node[Any] | None, on_done: Callable[[Computed[Any]], object]
    ) -> None:
        self.computation = computation
        self.dependent = dependent
        self.on_done = on_done

    def leave(self) -> None:
        """Stop waiting. The last waiter that leaves cancels the computation. Without effect once it has ended."""
        computation, self.computation = self.computation, None
        if computation is not None:
            computation.leave(self)


class Computation:
    """Runs one node, from the first wait for it to its completion.

    Attributes:
        node: what is computed. `node._computation is self` until the end.
        waiters: who waits, in order of arrival.
        waits_for: the nodes that this computation waits for now, with the number of its waiters at each.
    """

    __slots__ = ("node", "task", "waiters", "waits_for")

    def __init__(self, node: Computed[Any]) -> None:
        self.node = node
        self.waiters: dict[Waiter, None] = {}
        self.waits_for: dict[Node[Any], int] | None = None
        graph = node.function.graph
        loop = graph.running_loop()
        context = copy_context()
        context.run(current_computation.set, node)
        self.task: asyncio.Task[None] = loop.create_task(self._run(), name=node.function.name, context=context)
        node._computation = self
        graph.on_started(self)

    # -- waiters -----------------------------------------------------------------------------------------------------
    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter; abandon the computation if it was the last."""
        if waiter not in self.waiters:
            return
        del self.waiters[waiter]
        dependent = waiter.dependent
        if dependent is not None and dependent._computation is not None:
            _stop_waiting(dependent, dependent._computation, self.node)
        if not self.waiters:
            self.abandon()

    def abandon(self) -> None:
        """Cancel the computation: its node has no output and is out of the registry when this returns."""
        node = self.node
        if node._computation is not self:
            return
        self._detach()
        node.function.graph.invalidate(node)
        node._state = INVALIDATED
        if not self.task.get_loop().is_closed():
            self.task.cancel()
        self._tell_waiters()

    # -- the run -----------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        node = self.node
        try:
            value = await node.function.hosting.produce(node)
        except asyncio.CancelledError:
            self.on_cancelled()
        except Exception as error:
            traceback = error.__traceback__
            current_computation.set(None)
            if node._computation is self:
                node._failure = Failure(error, traceback and traceback.tb_next)
                self._complete()
        except (KeyboardInterrupt, SystemExit):
            self.on_cancelled()
            raise
        else:
            current_computation.set(None)
            if node._computation is self:
                node._value = value
                self._complete()

    def on_cancelled(self) -> None:
        """End without output, because the task was cancelled or the body raised `CancelledError`."""
        node = self.node
        if node._computation is not self:
            return
        self._detach()
        node.function.graph.invalidate(node)
        node._state = INVALIDATED
        self._tell_waiters()

    def _complete(self) -> None:
        node = self.node
        graph = node.function.graph
        self._detach()
        if node.version == 0:
            node.version = graph.next_version()
        if node._state == OUTDATED:
            node._state = INVALIDATED
        else:
            graph.admit(node)
        self._tell_waiters()

    def _detach(self) -> None:
        """Take the node off this computation, which from now on waits for nothing on the node's behalf."""
        node = self.node
        node._computation = None
        if self.waits_for is not None:
            unlink_all(node, self.waits_for)
            self.waits_for = None

    def _tell_waiters(self) -> None:
        waiters, self.waiters = self.waiters, {}
        node = self.node
        for waiter in waiters:
            waiter.computation = None
            dependent = waiter.dependent
            if dependent is not None and (computation := dependent._computation) is not None:
                waits_for = computation.waits_for
                if waits_for is not None and waits_for.pop(node, None) is not None:
                    settle(dependent, node)
        for waiter in waiters:
            try:
                waiter.on_done(node)
            except Exception:
                log.exception("a waiter of %s failed", node.key)


def enter(node: Computed[Any], dependent: Node[Any] | None, on_done: Callable[[Computed[Any]], object]) -> Waiter:
    """Wait for `node`, which is computing, on behalf of `dependent`; start its computation if nobody has.

    Raises:
        CircularDependencyError: `node` waits, directly or through others, for `dependent`.
        UsageError: this is not the event loop of the graph.
    """
    waiting = None if dependent is None else dependent._computation
    if dependent is not None and waiting is not None:
        _refuse_cycle(dependent, node)
    computation = node._computation or Computation(node)
    waiter = Waiter(computation, None if waiting is None else dependent, on_done)
    computation.waiters[waiter] = None
    if dependent is not None and waiting is not None:
        if waiting.waits_for is None:
            waiting.waits_for = {}
        waiting.waits_for[node] = waiting.waits_for.get(node, 0) + 1
        if dependent._state == COMPUTING:
            if node._state == OUTDATED:
                dependent.function.graph.invalidate(dependent)  # it will be given an old value
            else:
                link(dependent, node)
    return waiter


def _stop_waiting(dependent: Node[Any], computation: Computation, node: Node[Any]) -> None:
    waits_for = computation.waits_for
    if waits_for is None or node not in waits_for:
        return
    waits_for[node] -= 1
    if not waits_for[node]:
        del waits_for[node]
        if dependent._state == COMPUTING:
            unlink(dependent, node)


def _refuse_cycle(dependent: Node[Any], node: Computed[Any]) -> None:
    if node is not dependent and (node._computation is None or node._computation.waits_for is None):
        return
    path = _path(node, dependent)
    if path is None:
        return
    if node is not dependent and dependent._state == COMPUTING:
        # The error rests on what the others wait for: when that changes, it is out of date.
        if node._state == COMPUTING:
            capture_wait(dependent, node)
        else:
            capture(dependent, node)
    raise CircularDependencyError(" → ".join(_name(step) for step in [dependent, *path]))


def capture_wait(dependent: Node[Any], node: Node[Any]) -> None:
    """Make `dependent` depend on `node` although that has no output yet."""
    if link(dependent, node):
        settle(dependent, node)


def _name(node: Any) -> str:
    return str(node.key)


def _path(start: Node[Any], end: Node[Any]) -> list[Node[Any]] | None:
    """Return the nodes from `start` to `end` along the wait-for graph, or None. A loop, no recursion."""
    came_from: dict[Any, Node[Any] | None] = {start: None}
    pending: list[Node[Any]] = [start]
    while pending:
        node = pending.pop()
        if node is end:
            path: list[Any] = []
            step: Any = node
            while step is not None:
                path.append(step)
                step = came_from[step]
            return path[::-1]
        computation = node._computation
        if computation is not None and computation.waits_for is not None:
            for awaited in computation.waits_for:
                if awaited not in came_from:
                    came_from[awaited] = node
                    pending.append(awaited)
    return None
