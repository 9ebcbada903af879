"""Runs a coroutine to its end, even if its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fusion_cluster.bodies.crossing import Outcome, outcome_of
from fusion_cluster.runtime import SYSTEM

T = TypeVar("T")


async def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a separate task and return its result, only after it has ended.

    A cancellation of the caller does not reach the coroutine; it is raised here when the coroutine has ended, in place
    of its outcome.

    Raises:
        CancelledError: the caller was cancelled meanwhile, or the task itself was (the loop is shutting down).
    """
    loop = asyncio.get_running_loop()
    # The task sets it in its last step: waiting for it takes two turns of the event loop less than shielding the task.
    ended: asyncio.Future[None] = loop.create_future()

    async def run() -> Outcome:
        try:
            return await outcome_of(lambda: coroutine)
        finally:
            if not ended.done():
                ended.set_result(None)

    def on_done(_: asyncio.Task[Outcome]) -> None:
        if not ended.done():  # it was cancelled before it began
            coroutine.close()
            ended.cancel()

    task = SYSTEM.create_task(run(), name="run to the end")
    task.add_done_callback(on_done)
    cancellation: asyncio.CancelledError
    try:
        await ended
    except asyncio.CancelledError as error:
        cancellation = error
    else:
        value: T = task.result().give()
        return value
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancellation = error
    if not task.cancelled():
        cancellation.__cause__ = task.exception()
    raise cancellation
