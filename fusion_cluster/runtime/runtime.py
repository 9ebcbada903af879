"""The runtime of a process: its clock, its entropy, its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from contextvars import Context
from typing import Any, Final, TypeVar

from fusion_cluster.runtime.backoff import Backoff
from fusion_cluster.runtime.clock import SYSTEM_CLOCK, Clock
from fusion_cluster.runtime.entropy import Entropy, SystemEntropy
from fusion_cluster.runtime.task_scope import TaskScope

T = TypeVar("T")


class Runtime:
    """Owns time, chance and background tasks for whatever it is given to.

    Timers and waits (`loop.call_later`, `asyncio.sleep`, `asyncio.timeout`) belong to the event loop, whose time has to
    run as the monotonic clock does.

    Args:
        clock: what time it is; by default the machine's.
        entropy: random numbers; by default the machine's.

    Attributes:
        clock: what time it is.
        entropy: random numbers.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, entropy: Entropy | None = None) -> None:
        self.clock = clock
        self.entropy = entropy or SystemEntropy()

    def create_task(
        self, coroutine: Coroutine[Any, Any, T], *, name: str, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Create a task in the running event loop. Prefer a `scope`, which ends what it began."""
        return asyncio.get_running_loop().create_task(coroutine, name=name, context=context)

    def ensure_future(self, awaitable: Awaitable[T], *, name: str) -> asyncio.Future[T]:
        """Return a future as it is, and a task of that name for anything else that can be awaited."""
        future = asyncio.ensure_future(awaitable)
        if future is not awaitable and isinstance(future, asyncio.Task):
            future.set_name(name)
        return future

    async def gather(self, coroutines: Iterable[Coroutine[Any, Any, T]], *, name: str) -> list[T]:
        """Run coroutines at the same time, in tasks of that name, and return their results in order.

        Raises:
            Exception: the first error, when all have ended.
            asyncio.CancelledError: nothing has failed, but one has cancelled itself.
        """
        tasks = [self.create_task(coroutine, name=name) for coroutine in coroutines]
        try:
            if tasks:
                await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
        if errors:
            raise errors[0]
        return [task.result() for task in tasks]

    def scope(self, owner: str) -> TaskScope:
        """Return a scope for the background tasks of one part, which `owner` names."""
        return TaskScope(owner, create=self.create_task)

    def backoff(self, *, first_s: float, longest_s: float, factor: float = 2.0, jitter: float = 0.5) -> Backoff:
        """Return the pauses of a series of attempts; see `Backoff`."""
        return Backoff(self.entropy, first_s=first_s, longest_s=longest_s, factor=factor, jitter=jitter)


class SystemRuntime(Runtime):
    """The machine's clocks and entropy."""

    def __init__(self) -> None:
        super().__init__()


SYSTEM: Final = SystemRuntime()
"""The default of whatever takes a runtime. It has no state."""
