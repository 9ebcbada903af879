"""A computed: one node of the graph, as users and hosts see it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Final, TypeVar

from fusion_cluster.errors import CircularDependencyError, InvariantViolation, UsageError
from fusion_cluster.failures.failure import Failure, is_memoized
from fusion_cluster.graph.computing.computation import Computation, Waiter
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.computing.waiting import enter
from fusion_cluster.graph.core.context import current_computation, isolated
from fusion_cluster.graph.core.hot_path import COMPUTING, CONSISTENT, INVALIDATED, Node, adopt_node, capture
from fusion_cluster.graph.core.key import Key, key_of
from fusion_cluster.graph.core.state import SHOWN, State
from fusion_cluster.graph.why.cause import call_site

T_co = TypeVar("T_co", covariant=True)


_get_current: Final = current_computation.get


class Computed(Node[T_co]):
    """One result of a compute method: a key, a version, an output (value or error) and a state.

    Await it for its value; the first await starts the computation. Inside another computation, awaiting it, and reading
    `value` or `error`, make it a dependency. An invalidated computed keeps its output; awaited inside a computation, it
    gives the up-to-date value of its key.

    A computed, like its graph, belongs to one event loop and one thread.
    """

    __slots__ = ()

    function: ComputeFunction
    _failure: Failure | None
    _computation: Computation | None

    def __repr__(self) -> str:
        return f"<Computed {self.key} {self.state.value} v{self.version}>"

    def __await__(self) -> Generator[Any, Any, T_co]:
        # In C an `await` statement does the same without making a generator, where there is nothing to wait for.
        if self._state == CONSISTENT:
            try:
                value = self._value
            except AttributeError:
                pass
            else:
                dependent = _get_current()
                if dependent is not None:
                    capture(dependent, self)
                return value
        try:
            return (yield from self._use())
        finally:
            del self  # an error's traceback holds this frame, the frame must not hold the error's node

    # -- what it is --------------------------------------------------------------------------------------------------
    @property
    def key(self) -> Key:
        """Service, method and canonical arguments."""
        return key_of(self)

    @property
    def state(self) -> State:
        """Computing, consistent or invalidated. One that changed while being computed is still computing."""
        self._settle()
        return SHOWN[self._state]

    @property
    def is_consistent(self) -> bool:
        """Whether the output is there and up to date."""
        self._settle()
        return self._state == CONSISTENT

    def _settle(self) -> None:
        registry = self.table.registry
        registry.check_fence()
        if registry.is_in_doubt:
            self.function.graph.doubt.settle(self)

    @property
    def has_output(self) -> bool:
        """Whether there is a value or an error.

        Not while computing, nor after a computation that was cancelled, nor while the value is paged out.
        """
        return self._failure is not None or hasattr(self, "_value")  # `core.state.has_output`, without a call

    @property
    def value(self) -> T_co:
        """The value, also of an invalidated computed.

        Raises:
            UsageError: there is no output yet.
            Exception: the error that the computation ended with.
        """
        self._require_output()
        if self._failure is not None:
            self._failure.throw()
        return self._handed_out()

    @property
    def error(self) -> Exception | None:
        """The error that the computation ended with, None when it gave a value.

        To be looked at: it is the one that all who look are given. Those who await the computed, or read its `value`,
        are given copies, each its own.

        Raises:
            UsageError: there is no output yet.
        """
        self._require_output()
        return None if self._failure is None else self._failure.error

    # -- invalidation ------------------------------------------------------------------------------------------------
    def invalidate(self) -> None:
        """Mark this computed and its transitive dependents as out of date. Idempotent; recomputes nothing.

        With an `invalidation_delay` or a `consolidation_delay` this happens later, or not at all: see `ComputeOptions`.
        """
        self.function.graph.invalidate(self, call_site())

    def on_invalidated(self, observer: Callable[[Computed[T_co]], object]) -> None:
        """Call `observer(self)` once, when this is invalidated; at once if it is already.

        Of a computed that is outdated while computing this is the moment of the outdating. An observer that is given
        twice is called once.
        """
        if self._state > CONSISTENT:
            observer(self)
        elif self._observers is None:
            self._observers = observer
        elif isinstance(self._observers, dict):
            self._observers[observer] = None
        elif self._observers != observer:
            self._observers = {self._observers: None, observer: None}

    def remove_observer(self, observer: Callable[[Computed[T_co]], object]) -> None:
        """Forget an observer; without effect if it is not there."""
        observers = self._observers
        if isinstance(observers, dict):
            observers.pop(observer, None)
            if observers:
                return
        elif observers is None or observers != observer:
            return
        self._observers = None
        self.table.registry.loosened(self)

    async def when_invalidated(self) -> None:
        """Wait until this is invalidated; returns at once if it is already."""
        if self._state > CONSISTENT:
            return
        future = asyncio.get_running_loop().create_future()
        observer = functools.partial(_wake, future)
        self.on_invalidated(observer)
        try:
            await future
        finally:
            self.remove_observer(observer)

    # -- newer ones --------------------------------------------------------------------------------------------------
    async def update(self) -> Computed[T_co]:
        """Return the up-to-date computed of the same key, computed if need be; this one if it is consistent.

        Does not raise the error of a failed computation: it is in the result.

        Raises:
            asyncio.CancelledError: the computation was cancelled from within.
        """
        return await _Updating(self if self.is_consistent else self.function.lookup(self.arguments))

    async def when(self, predicate: Callable[[T_co], bool]) -> Computed[T_co]:
        """Return the first computed of this key, from now on, whose value satisfies `predicate`.

        Inside a computation only the computed returned may become a dependency, when its value is read.

        Raises:
            Exception: a computation ended with this error.
        """
        async for computed in self.changes():
            with isolated():
                value = computed.value
            if predicate(value):
                return computed
        raise InvariantViolation("changes() has ended")

    async def changes(self) -> AsyncIterator[Computed[T_co]]:
        """Give the computed that is up to date now, and another after each change; a slow reader skips some.

        A failed computation is given too (see `error`). After one whose error is not kept as a result, the next attempt
        waits for the error's `retry_after_s`, or the method's `transient_error_delay`.
        """
        computed = self
        while True:
            with isolated():
                latest = computed.update()
                computed = await latest
            yield computed
            if computed._failure is not None and not is_memoized(computed._failure.error):
                await asyncio.sleep(computed.function.retry_delay_s(computed._failure.error))
            await computed.when_invalidated()

    # -- for hosts ---------------------------------------------------------------------------------------------------
    def join(
        self, on_done: Callable[[Computed[T_co]], object], *, deadline_s: float | None = None, is_eager: bool = False
    ) -> Waiter:
        """Be told by `on_done(computed)` when there is an output, without a task per call; start computing if need be.

        If there is an output already, `on_done` is called before this returns. The computed told is this one, or, if
        this one was cancelled before it had an output, the current one of its key. If the computation is cancelled from
        within, `has_output` of the computed told is False.

        Args:
            on_done: called once.
            deadline_s: until when the caller waits; None: until the deadline of this context.
            is_eager: the first step of the body may run before this returns; False: in the next turn of the loop.

        Returns:
            The waiter; it waits for no computation any more if `on_done` has been called.
        """
        node = self._or_current()
        if node.has_output:
            on_done(node)
            return Waiter(None, None, on_done)
        return enter(node, None, on_done, deadline_s=deadline_s, is_eager=is_eager)

    def outcome(self) -> tuple[T_co | None, Exception | None]:
        """Return the value, or the error, of the output that is there, for a host that passes it on.

        Nobody depends on it for that.
        """
        failure = self._failure
        return (self._handed_out(), None) if failure is None else (None, failure.error)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _handed_out(self) -> T_co:
        """Return the value, which is there, for somebody to read."""
        return self._value

    def _require_output(self) -> None:
        if not self.has_output:
            if self.function.variants is not None:
                raise UsageError(
                    f"{self.key} depends on who asks: call the method again, or use `await update()` of this"
                )
            raise UsageError(f"{self.key} has no output: await it first")
        dependent = current_computation.get()
        if dependent is not None and dependent is not self:
            capture(dependent, self)

    def _or_current(self, dependent: Node[Any] | None = None) -> Computed[T_co]:
        """Return this one, or the current one of its key if this cannot stand for it.

        It cannot if it will never have an output of its own. Nor can one that is out of date stand for it in a
        computation, whose result is given also to those who have come after the change.
        """
        node = self
        if node._state > CONSISTENT and dependent is not None and dependent._state == COMPUTING:
            node = node.function.lookup(node.arguments)
        while node._state == INVALIDATED and not node.has_output:
            node = node.function.lookup(node.arguments)
        return node

    def _begin(self) -> Waiter | None:
        """Start the computation; return the waiter for its end, None if it has ended already (called by C)."""
        waiter = enter(self, _get_current())
        if waiter.computation is not None:
            return waiter
        if not self.has_output:
            if self.function.variants is not None:
                return waiter  # `_arrive` goes on to the reader's own
            raise self.function.graph.no_output()
        return None

    def _use(self, waiter: Waiter | None = None) -> Generator[Any, Any, T_co]:
        """Give the output to the current computation, after waiting for it if need be."""
        node: Computed[T_co] | None = None
        try:
            node = yield from self._arrive(waiter)
            if node.function is not self.function:
                pass  # the reader's own: others may hold this one
            elif node is not self and self._state == INVALIDATED and not self.has_output:
                self.version = node.version
                self._failure = node._failure
                if node._failure is None:
                    self._value = node._value
            if node._failure is not None:
                node._failure.throw()
            return node._handed_out()
        finally:
            node = None
            del self  # see __await__

    def _arrive(self, waiter: Waiter | None = None) -> Generator[Any, Any, Computed[T_co]]:
        """Wait for an output and make it a dependency of the current computation; return the node that has it."""
        dependent = _get_current()
        node = self if waiter is not None else self._or_current(dependent)
        while not node.has_output:
            waiter = waiter or enter(node, dependent)
            if waiter.computation is not None:
                future = node.function.graph.starter().loop.create_future()
                waiter.on_done = functools.partial(_wake, future)
                try:
                    yield from future
                except BaseException:
                    waiter.leave()
                    raise
            if waiter.refused is not None:
                raise CircularDependencyError(waiter.refused)
            if node.has_output:
                break
            if node.function.variants is None:
                raise node.function.graph.no_output()
            node, waiter = node.function.lookup(node.arguments), None  # it varies: the reader's own
        if dependent is not None:
            capture(dependent, node)
        return node


class _Updating:
    """Awaitable that gives a node once it has an output, as `await node` does, but never raises its error."""

    __slots__ = ("_node",)

    def __init__(self, node: Computed[T_co]) -> None:
        self._node = node

    def __await__(self) -> Generator[Any, Any, Computed[Any]]:
        return self._node._arrive()


def _wake(future: asyncio.Future[None], _node: object) -> None:
    if not future.done():
        future.set_result(None)


ComputeFunction = Function[Computed[Any]]
"""A compute method of one hosted service: where its computeds are looked up."""

adopt_node(Computed)
