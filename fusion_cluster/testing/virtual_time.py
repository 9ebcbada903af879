"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it.

Invariant: the clock stands still while anything is ready, and while a thread works for the loop; it never goes back.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""Of real time: a thread that works for longer hangs."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits, but for threads: what it would have waited is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.threads_at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.threads_at_work:
            ready = super().select(PATIENCE_S)  # a thread that has its result wakes the loop
            if not ready:
                raise RuntimeError(f"a thread has worked for more than {PATIENCE_S:g} s of real time")
            return ready
        if timeout is None:
            raise RuntimeError("nothing will ever happen: all tasks wait, and no timer runs")
        self.now_s += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: an hour passes as soon as everybody waits for its end.

    Time stands still while a thread works that `run_in_executor` (or `asyncio.to_thread`) has started, or that
    somebody says so of (`stand_still_for`), as SQLite's driver does. Nothing else outside the loop is waited
    for: with sockets to other processes the time runs away.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # A timer is due when the clock is this close to it: more than what floats tell apart after some years.
        self._clock_resolution = 1e-7

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._jumping.now_s

    def stand_still_for(self, future: asyncio.Future[Any]) -> None:
        """Let no time pass until a future is done, which a thread will see to."""
        self._jumping.threads_at_work += 1
        future.add_done_callback(self._on_thread_done)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a function in a thread; no time passes until it has ended."""
        future = super().run_in_executor(executor, func, *args)
        self.stand_still_for(future)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """End the threads; no time passes until they have ended. Python 3.12 and later say how long that may take."""
        self._jumping.threads_at_work += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._jumping.threads_at_work -= 1

    def _on_thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._jumping.threads_at_work -= 1


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a loop of its own, in virtual time, and return its result.

    >>> async def main() -> None:
    ...     async with LocalCluster(app, runtime=VirtualRuntime()) as cluster:
    ...         await asyncio.sleep(3600)
    >>> run_in_virtual_time(main())
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
