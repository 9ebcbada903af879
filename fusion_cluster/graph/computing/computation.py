"""A computed while it is being computed: its task, who waits for it, and whom it waits for.

One computation runs a node's body in a task of its own, so that no single caller's cancellation ends it. A caller that
wants the output is a *waiter*; when the last one leaves, the computation is abandoned: its node leaves the registry at
that moment, so that a newcomer starts anew instead of joining a computation that is being cancelled.

A node whose value was paged out is consistent and has its edges: its computation only brings the value back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import chain
from sys import exception
from threading import get_ident
from typing import Any, Final

import msgspec
from msgspec.json import decode as decode_principal

from fusion_cluster.failures.exits import as_body_exited, body_exited
from fusion_cluster.failures.failure import Failure
from fusion_cluster.graph.computing.eager import current_task_of
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.computing.lifetime import note_brief_output
from fusion_cluster.graph.computing.surroundings import Surroundings
from fusion_cluster.graph.core.context import current_computation, running_computation
from fusion_cluster.graph.core.hot_path import (
    COMPUTING,
    CONSISTENT,
    OUTDATED,
    Node,
    dependencies_of,
    link,
    unlink,
)
from fusion_cluster.graph.core.key import key_of
from fusion_cluster.graph.core.pure.states import ON_END
from fusion_cluster.graph.why.cause import ABANDONED, CANCELLED, LOST_VALUE, OVERTAKEN, Cause
from fusion_cluster.runtime.baggage import current_principal
from fusion_cluster.runtime.deadline import NO_DEADLINE, current_deadline

log = logging.getLogger(__name__)

_get_principal: Final = current_principal.get
_get_deadline: Final = current_deadline.get


class Waiter(msgspec.Struct, eq=False):
    """One party that waits for a computation to end.

    Attributes:
        computation: what it waits for; None when that has ended.
        dependent: the computation on whose behalf it waits, if any.
        on_done: called once with the node, when the computation ends; not after `leave`. None while it need not be.
        is_isolated: the dependent waits, but will not depend on what it gets.
        deadline_s: until when it waits, where no computation does on whose behalf; infinite: nobody has said so.
        refused: the cycle that it was part of, in words, if it was ended for that (`waiting.refuse`); None: it was not.
    """

    computation: Computation | None
    dependent: Node[Any] | None = None
    on_done: Callable[[Any], object] | None = None
    is_isolated: bool = False
    deadline_s: float = NO_DEADLINE
    refused: str | None = None

    def leave(self) -> None:
        """Stop waiting. The last waiter that leaves cancels the computation. Without effect once it has ended."""
        computation, self.computation = self.computation, None
        if computation is not None:
            computation.leave(self)


class Computation(msgspec.Struct, eq=False):
    """Runs one node, from the first wait for it to its completion.

    Attributes:
        node: what is computed. `node._computation is self` until the end.
        task: what runs the body; None until the first step is over.
        waiters: who waits, in order of arrival.
        waits_for: the nodes that this computation waits for now, with the number of its waiters at each. While the node
            is live there is an edge from each.
        waits_isolated: the same under `isolated()`, without edges.
    """

    node: Node[Any]
    task: asyncio.Task[None] | None = None
    waiters: dict[Waiter, None] = {}
    waits_for: dict[Node[Any], int] | None = None
    waits_isolated: dict[Node[Any], int] | None = None

    def start(self, is_eager: bool) -> None:
        """Start the body.

        Args:
            is_eager: run it up to its first wait now, and to its end if it has none.

        Raises:
            UsageError: this is not the event loop of the graph.
        """
        function: Function[Any] = self.node.function
        graph = function.graph
        starter = graph.current_starter
        try:
            if starter is None or graph.thread_id != get_ident() or current_task_of(starter.loop) is None:
                starter = graph.starter(self.node)  # else it is sure that its loop runs here
        except BaseException:
            self.abandon()
            raise
        graph.computation_count += 1
        task = (starter.start if is_eager else starter.start_later)(self._run(), function.name)
        if not task.done():
            self.task = task
            graph.on_pending(self, task)
            if self.node._computation is not self:  # abandoned in its first step
                task.cancel()
        elif self.node._computation is self:
            self.on_task_ended(task)

    # -- whom it waits for -------------------------------------------------------------------------------------------
    @property
    def is_waiting(self) -> bool:
        """Whether the body waits for another computation now, as far as this process knows."""
        return bool(self.waits_for or self.waits_isolated)

    def waits(self) -> Iterator[Node[Any]]:
        """Go through the nodes that the body waits for now."""
        return chain(self.waits_for or (), self.waits_isolated or ())

    def start_waiting(self, waiter: Waiter, node: Node[Any]) -> None:
        """Note that `waiter`, which acts for this computation, waits for `node`."""
        if waiter.is_isolated:
            if self.waits_isolated is None:
                self.waits_isolated = {}
            self.waits_isolated[node] = self.waits_isolated.get(node, 0) + 1
            return
        if self.waits_for is None:
            self.waits_for = {}
        self.waits_for[node] = self.waits_for.get(node, 0) + 1
        if self.node._state == COMPUTING:
            if node._state == OUTDATED:
                self.node.function.graph.outdate_user(self.node, node)  # it will be given an old value
            else:
                link(self.node, node)

    def stop_waiting(self, waiter: Waiter, node: Node[Any]) -> None:
        """Note that `waiter`, which acts for this computation, has left `node` before that had an output."""
        waits = self.waits_isolated if waiter.is_isolated else self.waits_for
        if waits is None or node not in waits:
            return
        waits[node] -= 1
        if waits[node]:
            return
        del waits[node]
        if not waiter.is_isolated and self.node._state == COMPUTING:
            unlink(self.node, node)

    # -- waiters -----------------------------------------------------------------------------------------------------
    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter; abandon the computation if it was the last."""
        if waiter not in self.waiters:
            return
        del self.waiters[waiter]
        dependent = waiter.dependent
        if dependent is not None and dependent._computation is not None:
            dependent._computation.stop_waiting(waiter, self.node)
        if not self.waiters:
            self.abandon()

    def abandon(self, cause: Cause = ABANDONED) -> None:
        """Cancel the computation: its node has no output and is out of the registry when this returns."""
        task = self.task
        if self._end_without_output(cause) and task is not None and not task.get_loop().is_closed():
            task.cancel()

    # -- the run -----------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        node = self.node
        function: Function[Any] = node.function
        current_computation.set(node)
        running_computation.set(node)
        principal = function.principal  # a result that does not vary is everybody's, whoever asks first
        if principal is not None or _get_principal() is not None:  # to look costs less than to set
            current_principal.set(None if principal is None else decode_principal(principal))
        if _get_deadline() is not None:  # that of the first caller: others may have more time
            current_deadline.set(None)
        if node._computation is not self:
            return  # abandoned before it began
        ambient = exception()
        try:
            value = await function.hosting.produce(node)
            if function.admit is not None:
                value = function.admit(node, value)
        except asyncio.CancelledError:
            self._end_without_output()
        except Exception as error:
            self._on_raised(error, ambient)
        except BaseException as error:
            self._on_exit(error, ambient)
        else:
            if node._computation is not self:
                return
            try:
                if self.waits_for or not function.is_plain or not node.table.registry.succeed(node, value):
                    self._succeed(value)
            finally:
                self._tell_waiters()

    def on_task_ended(self, task: asyncio.Task[None]) -> None:
        """End if the task has ended without doing so: cancelled before its first step, or as something is wrong."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a computation's task failed", exc_info=error)
            if self.node._computation is self and not isinstance(error, KeyboardInterrupt):
                self._on_raised(error if isinstance(error, Exception) else as_body_exited(self._name, error), None)
        self._end_without_output()

    @property
    def _name(self) -> str:
        function: Function[Any] = self.node.function
        return function.name

    def _on_raised(self, error: Exception, ambient: BaseException | None) -> None:
        current_computation.set(None)
        if self.node._computation is self:
            failure = Failure.caught(error, ambient)
            failure.pass_on(used._failure for used in dependencies_of(self.node))
            self._fail(failure)

    def _on_exit(self, error: BaseException, ambient: BaseException | None) -> None:
        """End with what the body has raised that is not an `Exception`.

        Raises:
            BaseException: `error`, which comes from outside: the program ends, or the coroutine is closed.
        """
        try:
            exited = body_exited(self._name, error)
        except BaseException:
            if not isinstance(error, GeneratorExit):
                self._end_without_output()
            raise
        self._on_raised(exited, ambient)

    def _end_without_output(self, cause: Cause = CANCELLED) -> bool:
        """Tell whether this was still computing its node."""
        node = self.node
        if node._computation is not self:
            return False
        self._detach()
        if node._state != CONSISTENT:  # one that is consistent stays paged out
            node.function.graph.invalidate_now(node, cause)
            if node._state == OUTDATED:
                node._state = ON_END[OUTDATED]
        self._tell_waiters()
        return True

    def _succeed(self, value: Any) -> None:
        node = self.node
        if node._is_paged_out and node._state == CONSISTENT:
            self._detach()
            node.function.graph.page_in(node, value)
        else:
            node._value = value
            self._complete()

    def _fail(self, failure: Failure) -> None:
        node = self.node
        node._failure = failure
        if node._is_paged_out and node._state == CONSISTENT:
            node.function.graph.invalidate_now(node, LOST_VALUE)  # its dependents know the value, not this error
        try:
            self._complete()
        finally:
            self._tell_waiters()

    def _complete(self) -> None:
        node = self.node
        graph: Surroundings = node.function.graph
        self._detach()
        if node.version == 0:
            node.version = graph.registry.next_version()
        if node._state == OUTDATED:
            node._state = ON_END[OUTDATED]
            note_brief_output(node, OVERTAKEN)
        else:
            graph.admit(node)

    def _detach(self) -> None:
        """Take the node off this computation, which from now on waits for nothing on the node's behalf."""
        node = self.node
        node._computation = None
        if node._state == OUTDATED:
            node.function.on_outdated_ended(node)
        elif self.waits_for and node._state == COMPUTING:
            for awaited in self.waits_for:
                unlink(node, awaited)
        self.waits_for = self.waits_isolated = None

    def _tell_waiters(self) -> None:
        waiters, self.waiters = self.waiters, {}
        if len(waiters) == 1:  # most often it is the one that has started this, in its first step
            (waiter,) = waiters
            if waiter.dependent is None and waiter.on_done is None:
                waiter.computation = None
                return
        node = self.node
        interested: list[Callable[[Any], object]] = []
        for waiter in waiters:
            waiter.computation = None
            if waiter.on_done is not None:
                interested.append(waiter.on_done)
            dependent = waiter.dependent
            if dependent is None or (computation := dependent._computation) is None:
                continue
            # The edge, if there is one, stays: now it says that the output was used.
            waits = computation.waits_isolated if waiter.is_isolated else computation.waits_for
            if waits is not None:
                waits.pop(node, None)
        for on_done in interested:
            try:
                on_done(node)
            except Exception:
                log.exception("a waiter of %s failed", key_of(node))
