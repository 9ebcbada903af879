"""Starting a task at once: its first step runs before the call returns, instead of in the next turn of the loop.

A body that never has to wait, because all that it reads is there, then costs no turn of the loop at all. It runs in a
real `asyncio.Task` from its first line: `asyncio.current_task()`, timeouts, task groups and context variables are what
they always are. Python 3.12 can do this by itself (`eager_start`); for 3.11 the first step, which the task asks the
loop to call soon, is taken from it and called now.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from sys import exception
from typing import Any, Final

from fusion_cluster.runtime import Runtime

MAX_DEPTH: Final = 16
"""How many tasks may be in their first step inside one another: each takes some of the stack."""


class EagerStarter:
    """Starts tasks of one event loop; at once where that can be done, else in the next turn.

    Each runs in the given context, by default in a copy of that of its start. What is started in the handling of an
    exception begins in the next turn: else it could see that exception, and what it raises would have it as its
    context.

    Args:
        loop: in which they run.
        runtime: makes those that begin in the next turn.
    """

    __slots__ = ("_create_task", "_depth", "_first_step", "_has_factory", "_take_call", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: Runtime) -> None:
        self.loop = loop
        self._create_task = runtime.create_task
        self._has_factory = loop.get_task_factory() is not None  # its tasks are made by it, and begin when it says
        self._depth = 0
        self._first_step: Callable[[], object] | None = None
        if sys.version_info < (3, 12):
            self._take_call = self._take

    def start_later(
        self, coroutine: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Return a task that will begin in the next turn."""
        return self._create_task(coroutine, name=name, context=copy_context() if context is None else context)

    def start(
        self, coroutine: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Return a task that has run its first step, and may be done; or one that will begin in the next turn."""
        loop: Any = self.loop
        if self._depth >= MAX_DEPTH or self._has_factory or exception() is not None:
            return self.start_later(coroutine, name, context)
        self._depth += 1
        try:
            if context is None:
                context = copy_context()
            if sys.version_info >= (3, 12):
                return asyncio.Task(coroutine, loop=loop, name=name, context=context, eager_start=True)
            try:
                loop.call_soon = self._take_call
            except AttributeError:  # a loop that cannot be told: the task begins in the next turn
                return self._create_task(coroutine, name=name, context=context)
            try:
                task = asyncio.Task(coroutine, loop=loop, name=name, context=context)
            finally:
                del loop.call_soon
            step, self._first_step = self._first_step, None
            if step is None:
                raise RuntimeError("asyncio.Task has not asked for its first step")
            outer = current_task_of(loop)
            if outer is None:
                context.run(step)
                return task
            _leave_task(loop, outer)
            try:
                context.run(step)
            finally:
                _enter_task(loop, outer)
            return task
        finally:
            self._depth -= 1

    if sys.version_info < (3, 12):

        def _take(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> object:
            """Stand for `loop.call_soon` while a task is made: keep its first step, pass on what others ask for.

            Others are finalizers, of transports say, that the garbage collector has run at that moment.
            """
            if args or self._first_step is not None or type(callback).__name__ not in _FIRST_STEPS:
                loop: Any = self.loop
                return type(loop).call_soon(loop, callback, *args, context=context)
            self._first_step = callback
            return None


_FIRST_STEPS: Final = ("TaskStepMethWrapper", "method")
"""Types of the callable that is a task's step: of tasks in C, and in Python."""

_tasks: Final[Any] = asyncio.tasks
current_task_of: Final[Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]] = (
    asyncio.current_task if sys.version_info >= (3, 12) else _tasks._current_tasks.get
)
"""`asyncio.current_task` of a loop; that of 3.11 is written in Python."""

_leave_task: Final[Callable[..., None]] = asyncio._leave_task
_enter_task: Final[Callable[..., None]] = asyncio._enter_task
