"""The way from a body in a thread to the graph's event loop and back.

Two ends. On the loop the computation's own task waits for the body to end (`Crossing.run`) and answers what it asks
for; in the thread the body asks (`Crossing.ask`). What is asked for is read on the loop, in the context that the thread
had, with the computation as the one that depends on it: so capture, `isolated()`, single flight and the search for
cycles are those of a body that runs on the loop.

Invariant: once `run` has ended, because the body has or because the computation was cancelled, all who ask, or still
wait for an answer, get `CancelledError`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Final

from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.failures.exits import reraise_outside
from fusion_cluster.graph.computed import Computed, ComputeFunction
from fusion_cluster.graph.computing.computation import Waiter
from fusion_cluster.graph.computing.surroundings import runtime_of
from fusion_cluster.graph.core.context import current_computation, isolated, offloaded_computation, running_computation
from fusion_cluster.graph.graph import Graph
from fusion_cluster.graph.hosting import GraphHosting


class Request:
    """Something that the body asks for. Once answered it holds nothing any more.

    Attributes:
        make: called on the loop; gives the answer, or what to await for it.
        context: the context of the thread, with the computation in the place of its stand-in.
        is_isolated: the answer is not a dependency.
        stop: gives up what was begun for it, on the loop.
        waiter: waits for it under `isolated()`.
    """

    __slots__ = ("_answer", "context", "is_isolated", "make", "stop", "waiter")

    def __init__(self, make: Callable[[], Any], context: Context, answer: Answer, *, is_isolated: bool) -> None:
        self.make = make
        self.context = context
        self.is_isolated = is_isolated
        self.stop: Callable[[], object] | None = None
        self.waiter: Waiter | None = None
        self._answer: Answer | None = answer

    @property
    def is_answered(self) -> bool:
        """Whether it has its answer, or will never have one."""
        return self._answer is None

    def give(self, value: object) -> None:
        """Answer with a value."""
        answer = self._taken()
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_result(Outcome(value))

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        answer = self._taken()
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_result(Outcome(error=error))

    def answer(self, task: asyncio.Task[Outcome]) -> None:
        """Answer with what a task has ended with (see `outcome_of`)."""
        if task.cancelled():
            self.cancel()
        elif (error := task.exception()) is not None:
            self.fail(error)
        elif (raised := task.result().error) is not None:
            self.fail(raised)
        else:
            self.give(task.result().give())

    def cancel(self) -> None:
        """Give up what was begun for it; those who wait get `CancelledError`."""
        stop, answer = self.stop, self._taken()
        if stop is not None:
            stop()
        if answer is not None:
            answer.cancel()

    def _taken(self) -> Answer | None:
        answer, self._answer = self._answer, None
        self.stop = None
        self.waiter = None
        self.make = _nothing
        self.context = _EMPTY
        return answer


class Outcome:
    """How a body has ended: with a value or with an error.

    Attributes:
        error: the error; None when it has ended with a value, or was given away.
    """

    __slots__ = ("_value", "error")

    def __init__(self, value: object = None, error: BaseException | None = None) -> None:
        self._value = value
        self.error = error

    @classmethod
    def of(cls, body: Callable[[], object]) -> Outcome:
        """Run a body and return how it has ended."""
        try:
            return cls(body())
        except BaseException as error:
            return cls(error=error)

    def give(self) -> Any:
        """Return the value or raise the error; once, as nothing is kept: an error must not hold itself."""
        error, self.error = self.error, None
        value, self._value = self._value, None
        if error is None:
            return value
        try:
            raise error
        finally:
            del error


Answer = concurrent.futures.Future[Outcome]
"""What the thread waits for. (As their errors, futures lose those that are false: `if self._exception`.)"""


class Crossing:
    """Connects the task of a computation, which makes this object, with a thread that runs the body."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._computation = current_computation.get()
        self._runtime = runtime_of(self._computation)
        self._is_closed = False
        self._isolated: deque[Request] = deque()
        self._begun: set[Request] = set()
        self._outcome: Outcome | None = None
        self._woken: asyncio.Future[None] | None = None
        self._on_closed: deque[Callable[[], object]] = deque()

    @property
    def is_closed(self) -> bool:
        """Whether nobody waits for the body any more."""
        return self._is_closed

    # -- on the loop -------------------------------------------------------------------------------------------------
    def thread_context(self, *, is_task: bool = False) -> Context:
        """Return the context for the thread: a copy of the present one, whose computation is a stand-in.

        The stand-in captures nothing, as edges belong to the loop's thread; but it tells code that asks that it is part
        of a computation, and `isolated()` replaces it.

        Args:
            is_task: the body is not to find this way into the graph, as it could not from another process.
        """
        context = copy_context()
        context.run(current_computation.set, _STAND_IN)
        context.run(running_computation.set, None)
        context.run(offloaded_computation.set, self._computation)
        context.run(_crossing.set, None if is_task else self)
        return context

    async def run(self) -> Any:
        """Answer what the body asks for until it has ended; then return what it returned, or raise what it raised."""
        try:
            while self._outcome is None:
                self._woken = self._loop.create_future()
                await self._woken
                while self._isolated:
                    self._begin_isolated(self._isolated.popleft())
            return self._outcome.give()
        finally:
            self._close()

    def _on_asked(self, request: Request) -> None:
        if self._is_closed:
            request.cancel()
            return
        self._begun.add(request)
        if request.is_isolated:
            # A wait under isolated() holds the body up only in the computation's own task: `run` makes it there.
            self._isolated.append(request)
            self._wake()
        else:
            self._begin(request)

    def _on_ended(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._wake()

    def _on_given_up(self, request: Request) -> None:
        """The thread has cancelled what it waited for."""
        self._begun.discard(request)
        request.cancel()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _begin(self, request: Request) -> None:
        name = "a call of a body's thread"
        task = self._runtime.create_task(outcome_of(request.make), name=name, context=request.context)
        request.stop = task.cancel
        task.add_done_callback(partial(self._on_awaited, request), context=Context())

    def _on_awaited(self, request: Request, task: asyncio.Task[Outcome]) -> None:
        self._begun.discard(request)
        request.answer(task)

    def _begin_isolated(self, request: Request) -> None:
        if request.is_answered:  # it was given up meanwhile
            return
        try:
            made = request.context.run(request.make)
            if not isinstance(made, Computed):
                request.make = partial(_same, made)
                self._begin(request)
                return
            with isolated():
                waiter = made.join(partial(self._on_joined, request))
        except BaseException as error:
            reraise_outside(error)
            self._fail(request, error)
            return
        if not request.is_answered:
            request.waiter, request.stop = waiter, waiter.leave

    def _on_joined(self, request: Request, node: Computed[Any]) -> None:
        waiter = request.waiter
        if waiter is not None and waiter.refused is not None:
            self._fail(request, CircularDependencyError(waiter.refused))
            return
        if not node.has_output:
            self._begun.discard(request)
            request.cancel()
            return
        try:
            with isolated():
                value = node.value
        except Exception as error:
            self._fail(request, error)
        else:
            self._give(request, value)

    def _give(self, request: Request, value: object) -> None:
        self._begun.discard(request)
        request.give(value)

    def _fail(self, request: Request, error: BaseException) -> None:
        self._begun.discard(request)
        request.fail(error)

    def _close(self) -> None:
        self._is_closed = True
        self._computation = None  # an error's traceback may hold this object, and must not hold the computed
        self._isolated.clear()
        self._tell_closed()
        begun, self._begun = self._begun, set()
        for request in begun:
            request.cancel()

    # -- in the thread -----------------------------------------------------------------------------------------------
    def ask(self, make: Callable[[], Any]) -> Answer:
        """Ask for something: `make()` is called on the loop, and what it gives is awaited there if it can be."""
        # A thread that the body has made for itself has an empty context, which says nothing.
        is_isolated = current_computation.get() is None and _crossing.get() is self
        context = copy_context()
        context.run(current_computation.set, None if is_isolated else self._computation)
        context.run(running_computation.set, self._computation)
        answer: Answer = concurrent.futures.Future()
        request = Request(make, context, answer, is_isolated=is_isolated)
        if self._is_closed or not self._tell(partial(self._on_asked, request)):
            answer.cancel()
        else:
            answer.add_done_callback(partial(self._on_answer_done, request))
        return answer

    def _on_answer_done(self, request: Request, answer: Answer) -> None:
        if answer.cancelled() and not self._is_closed:
            self._tell(partial(self._on_given_up, request))

    def on_closed(self, callback: Callable[[], object]) -> None:
        """Call `callback()`, from any thread, when nobody waits for the body any more; at once if nobody does."""
        self._on_closed.append(callback)
        if self._is_closed:
            self._tell_closed()

    def end(self, outcome: Outcome) -> None:
        """Tell that the body has ended."""
        self._tell(partial(self._on_ended, outcome))

    def tell(self, callback: Callable[[Computed[Any]], object]) -> None:
        """Call `callback` with the computation, on the loop, before the body ends; not if nobody waits for it."""
        self._tell(partial(self._on_told, callback))

    def _on_told(self, callback: Callable[[Computed[Any]], object]) -> None:
        node: Any = self._computation
        if node is not None:
            callback(node)

    def _tell_closed(self) -> None:
        with contextlib.suppress(IndexError):
            self._on_closed.pop()()  # both ends may come here at once: the deque gives it to one of them

    def _tell(self, callback: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, context=Context())
        except RuntimeError:  # the loop is closed
            self._is_closed = True
            return False
        return True


_crossing: Final[ContextVar[Crossing | None]] = ContextVar("fusion_cluster_crossing", default=None)
"""The crossing of the body whose context this is."""


def current_crossing() -> Crossing | None:
    """The crossing of the body that runs in this context, if it runs in a thread."""
    return _crossing.get()


async def outcome_of(make: Callable[[], Any]) -> Outcome:
    """Return what `answer_to(make)` gives, or what of it would end the event loop of the task that runs this."""
    try:
        return Outcome(await answer_to(make))
    except (SystemExit, KeyboardInterrupt) as error:
        reraise_outside(error)
        return Outcome(error=error)


async def answer_to(make: Callable[[], Any]) -> Any:
    """Call `make()` and await what it gives if that can be awaited.

    In one step: a computed that is awaited later may be out of date by then, and whoever has joined its dependent in
    between would be given an old value.
    """
    made = make()
    return await made if isinstance(made, Awaitable) else made


def _same(value: Any) -> Any:
    return value


def _nothing() -> None: ...


_EMPTY: Final = Context()


def _new_stand_in() -> Computed[None]:
    """Return a computed that was given up before it had an output: it never becomes a dependent."""

    async def body(self: object) -> None: ...

    hosting = GraphHosting(Graph(max_nodes=1))
    method = Method("Thread", "body", "compute", Signature(body, "Thread.body"))
    function = ComputeFunction(method, body=body, hosting=hosting, graph=hosting.graph)
    hosting.graph.add(function)
    node: Computed[None] = function.lookup(())
    node.invalidate()
    return node


_STAND_IN: Final = _new_stand_in()
"""The computation of every context in a thread (see `Crossing.thread_context`)."""
