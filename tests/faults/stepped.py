"""Driving a coroutine from one suspension to the next, to cancel it at each of them in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any


class Stepped:
    """Drives a coroutine and cancels the task it runs in while it is suspended for the n-th time (and again, later).

    Args:
        coroutine: what to drive.
        cancel_at: at which suspension, counted from zero.
        times: at how many in a row.

    Attributes:
        suspensions: how often it was suspended.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], cancel_at: int, *, times: int = 1) -> None:
        self.coroutine = coroutine
        self.cancel_at = cancel_at
        self.times = times
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        inner = self.coroutine.__await__()
        try:
            waited_for = next(inner)
            while True:
                if self.cancel_at <= self.suspensions < self.cancel_at + self.times:
                    asyncio.get_running_loop().call_soon(task.cancel)
                self.suspensions += 1
                try:
                    given = yield waited_for
                except BaseException as error:
                    waited_for = inner.throw(error)
                else:
                    waited_for = inner.send(given)
        except StopIteration as end:
            return end.value


async def cancelled_at(coroutine: Coroutine[Any, Any, Any], suspension: int, *, times: int = 1) -> bool:
    """Run a coroutine in a task, and cancel that at its n-th suspension; returns whether it was cancelled by that.

    Raises:
        Exception: what the coroutine raised.
    """
    stepped = Stepped(coroutine, suspension, times=times)

    async def run() -> None:
        await stepped

    task = asyncio.create_task(run())
    with suppress(asyncio.CancelledError):
        await task
    return task.cancelled()
