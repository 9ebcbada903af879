"""Task scopes: who owns the background tasks of a part, and ends them with it.

Invariant: once `close` has returned no task of the scope runs, and each failure of one was reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from fusion_cluster.errors import InvariantViolation

logger = logging.getLogger(__name__)

T = TypeVar("T")

CreateTask = Callable[..., "asyncio.Task[Any]"]


def create_task(coroutine: Coroutine[Any, Any, T], *, name: str, context: Context | None = None) -> asyncio.Task[T]:
    """Create a task in the running event loop."""
    return asyncio.get_running_loop().create_task(coroutine, name=name, context=context)


class TaskScope:
    """The background tasks of one part of the project.

    Args:
        owner: names the part, in the messages about its tasks.
        create: makes a task, as `create_task` does.
    """

    __slots__ = ("_create", "_is_closed", "_owner", "_tasks")

    def __init__(self, owner: str, *, create: CreateTask = create_task) -> None:
        self._owner = owner
        self._create = create
        # All that have not ended, in the order of their starts: that of their ends must not depend on chance.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._is_closed = False

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str, context: Context | None = None) -> asyncio.Task[T]:
        """Run a coroutine in the background. If it fails, that is logged: nobody need await the task.

        Args:
            coroutine: what to run.
            name: says what it does, to people.
            context: it runs in this one; None: in an empty one, so that it inherits nothing from whoever comes by.

        Raises:
            InvariantViolation: the scope is closed.
        """
        if context is None:  # made within it, so that nobody takes it for one that a body gives to a task of its own
            task = Context().run(self.start, coroutine, name=name)
        else:
            task = self.start(coroutine, name=name, context=context)
        task.add_done_callback(self._report)
        return task

    def start(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        name: str,
        context: Context | None = None,
        create: CreateTask | None = None,
    ) -> asyncio.Task[T]:
        """Run a coroutine for a caller who awaits the task, and with it its failure.

        Args:
            coroutine: what to run.
            name: says what it does, to people.
            context: it runs in this one; None: in a copy of the caller's.
            create: makes the task, which may have ended by then; None: as all others are made.

        Raises:
            InvariantViolation: the scope is closed.
        """
        if self._is_closed:
            coroutine.close()
            raise InvariantViolation(f"{self._owner} is closed: it cannot {name}")
        task: asyncio.Task[T] = (create or self._create)(coroutine, name=name, context=context)
        if task.done():
            return task
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    @property
    def tasks(self) -> tuple[asyncio.Task[Any], ...]:
        """Those that have not ended, in the order of their starts."""
        return tuple(self._tasks)

    def cancel(self) -> None:
        """Cancel all tasks, and go on; `close` waits for them."""
        for task in self.tasks:
            task.cancel()

    async def close(self) -> None:
        """Cancel all tasks but the caller's own, and wait for their ends. May be called again."""
        self._is_closed = True
        own = asyncio.current_task()
        while others := [task for task in self._tasks if task is not own]:
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def _report(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: %s has failed", self._owner, task.get_name(), exc_info=error)
