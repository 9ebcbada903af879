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
from contextvars import Context
from typing import Any, Final

MAX_DEPTH: Final = 16
"""How many tasks may be in their first step inside one another: each takes some of the stack."""


class EagerStarter:
    """Starts tasks of one event loop; at once where that can be done, else in the next turn."""

    __slots__ = ("_depth", "_first_step", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._depth = 0
        self._first_step: Callable[[], object] | None = None

    def start(self, coroutine: Coroutine[Any, Any, None], name: str, context: Context) -> asyncio.Task[None]:
        """Return a task that has run its first step, and may be done; or one that will begin in the next turn."""
        loop = self.loop
        if self._depth >= MAX_DEPTH or loop.get_task_factory() is not None:
            return loop.create_task(coroutine, name=name, context=context)
        outer = asyncio.current_task()
        self._depth += 1
        try:
            return self._start(coroutine, name, context, outer)
        finally:
            self._depth -= 1

    if sys.version_info >= (3, 12):

        def _start(
            self,
            coroutine: Coroutine[Any, Any, None],
            name: str,
            context: Context,
            outer: asyncio.Task[Any] | None,
        ) -> asyncio.Task[None]:
            return asyncio.Task(coroutine, loop=self.loop, name=name, context=context, eager_start=True)

    else:

        def _start(
            self,
            coroutine: Coroutine[Any, Any, None],
            name: str,
            context: Context,
            outer: asyncio.Task[Any] | None,
        ) -> asyncio.Task[None]:
            loop: Any = self.loop
            try:
                loop.call_soon = self._take_first_step
            except AttributeError:  # a loop that cannot be told: the task begins in the next turn
                return self.loop.create_task(coroutine, name=name, context=context)
            try:
                task = asyncio.Task(coroutine, loop=loop, name=name, context=context)
            finally:
                del loop.call_soon
            step, self._first_step = self._first_step, None
            assert step is not None
            if outer is None:
                context.run(step)
                return task
            asyncio._leave_task(loop, outer)
            try:
                context.run(step)
            finally:
                asyncio._enter_task(loop, outer)
            return task

        def _take_first_step(self, step: Callable[[], object], *, context: Context | None = None) -> None:
            self._first_step = step
