"""Calls from threads into an event loop that runs in another thread.

Callers wait in slices. So Ctrl-C works on every platform, and callers notice when the event loop has ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, TypeVar, overload

from fusion_cluster.bodies.crossing import Answer, Request, outcome_of
from fusion_cluster.commands.context import current_command
from fusion_cluster.commands.operation import current_operation
from fusion_cluster.errors import DeadlineExceeded, ShardUnavailable, UsageError
from fusion_cluster.forks import copied_by_fork, watch_forks
from fusion_cluster.graph import current_computation
from fusion_cluster.quantities import as_delay
from fusion_cluster.runtime import SYSTEM

T = TypeVar("T")

SLICE_S: Final = 0.5
"""The longest time for which a caller waits only for its answer."""


class Portal:
    """Runs calls on an event loop for callers in other threads.

    Args:
        loop: the event loop; it runs in another thread than the callers.
        name: names in messages what the callers use.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str = "the blocking host") -> None:
        self._loop = loop
        self._name = name
        self._is_closed = False
        self._is_forked = False
        watch_forks(self)
        self._tasks: set[asyncio.Task[Any]] = set()

    @overload
    def run(self, make: Callable[[], Awaitable[T]], *, timeout_s: float | None = None) -> T: ...
    @overload
    def run(self, make: Callable[[], T], *, timeout_s: float | None = None) -> T: ...
    def run(self, make: Callable[[], Any], *, timeout_s: float | None = None) -> Any:
        """Call `make()` on the loop, await its result there if that can be awaited, and return the result.

        If the caller stops waiting, because its time is up or because of Ctrl-C, the call on the loop is cancelled.

        Args:
            make: the function to call.
            timeout_s: how long to wait for the result; None: no limit.

        Raises:
            InvalidArgument: the time is not a number, or it is negative.
            UsageError: called from the loop's own thread, where it would wait for itself, or in a computation, or in a
                process that was forked after the loop had started.
            DeadlineExceeded: the time is up.
            ShardUnavailable: the event loop has ended, or the call was cancelled there.
            Exception: the exception that `make()`, or its awaitable, raised.
        """
        deadline_s = math.inf if timeout_s is None else SYSTEM.clock.monotonic() + as_delay("timeout_s", timeout_s)
        if self._is_forked:
            raise UsageError(copied_by_fork(self._name))
        if self._is_closed:
            raise UsageError(f"{self._name} is closed")
        self._require_another_thread()
        answer: Answer = concurrent.futures.Future()
        request = Request(make, _context_of_caller(), answer, is_isolated=True)
        try:
            if not self.tell(partial(self._begin, request)):
                raise ShardUnavailable(f"{self._name} is closed: its event loop has ended")
            return self._wait(answer, deadline_s)
        except concurrent.futures.CancelledError:
            if self._is_closed:
                raise UsageError(f"{self._name} was closed meanwhile") from None
            raise ShardUnavailable("the call was cancelled on the event loop", retry_after_s=0.05) from None
        finally:
            if not answer.done():
                answer.cancel()
                self.tell(request.cancel)
            del answer  # the error's traceback holds this frame, so the frame must not hold the error

    def tell(self, callback: Callable[[], object]) -> bool:
        """Schedule `callback()` on the loop; return whether the loop runs."""
        if self._is_forked or not self._loop.is_running():
            return False
        try:
            self._loop.call_soon_threadsafe(callback, context=Context())
        except RuntimeError:  # the loop was closed at this moment
            return False
        return True

    def close(self) -> None:
        """Refuse further calls: the loop is about to end."""
        self._is_closed = True

    def on_forked(self) -> None:
        """Note that this is a copy: the thread of the event loop was not copied, so calls cannot run here."""
        self._is_forked = True

    # -- in the caller's thread --------------------------------------------------------------------------------------
    def _require_another_thread(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            raise UsageError("a blocking call in the event loop's own thread would wait for itself: await the service")
        if current_computation.get() is not None:
            raise UsageError(
                "a blocking call in a compute method would not be a dependency: read through self, or under isolated()"
            )

    def _wait(self, answer: Answer, deadline_s: float) -> Any:
        while True:
            left_s = min(SLICE_S, deadline_s - SYSTEM.clock.monotonic())
            try:
                outcome = answer.result(max(left_s, 0.0))
            except concurrent.futures.TimeoutError:
                if answer.done():
                    continue  # the answer has come at this moment
            else:
                return outcome.give()
            if SYSTEM.clock.monotonic() >= deadline_s:
                raise DeadlineExceeded("the call's time is up")
            if not self._loop.is_running():
                raise ShardUnavailable(f"{self._name} was closed, with its event loop, while it was called")

    # -- on the loop -------------------------------------------------------------------------------------------------
    def spawn(self, coroutine: Coroutine[Any, Any, T], context: Context | None = None) -> asyncio.Task[T]:
        """Run a coroutine in a task that is kept until it ends."""
        task = SYSTEM.create_task(coroutine, name="a call of another thread", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(self, request: Request) -> None:
        if request.is_answered:
            return
        task = self.spawn(outcome_of(request.make), request.context)
        request.stop = task.cancel
        task.add_done_callback(request.answer, context=Context())


def _context_of_caller() -> Context:
    """Return the caller's context for its call. The call is not a part of the caller's computation or command."""
    context = copy_context()
    context.run(current_computation.set, None)
    context.run(current_command.set, None)
    context.run(current_operation.set, None)
    return context
