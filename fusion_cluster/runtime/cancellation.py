"""Cancellation: the one answer to "was I cancelled from outside?"."""

from __future__ import annotations

import asyncio


def is_being_cancelled() -> bool:
    """Tell whether a `CancelledError` in the current task comes from outside.

    One that somebody raised, or that came out of a future which was cancelled by itself, does not end the task: it is
    an error like any other. Outside of a task, every `CancelledError` comes from outside.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
