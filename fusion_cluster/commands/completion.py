"""Running something to its end, whatever happens to the one who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a task of its own and return what it returns, only after it has ended.

    A cancellation of the caller does not reach the coroutine; it is raised here when the coroutine has ended, in place
    of its outcome.

    Raises:
        CancelledError: the caller was cancelled meanwhile, or the task itself was (the loop is shutting down).
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    cancellation: asyncio.CancelledError
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as error:
        cancellation = error
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancellation = error
    if not task.cancelled():
        cancellation.__cause__ = task.exception()
    raise cancellation
