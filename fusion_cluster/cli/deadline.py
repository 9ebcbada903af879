"""Runs work that may hang where no signal reaches it: in a thread, which is left behind when the time is up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from fusion_cluster.errors import DeadlineExceeded

T = TypeVar("T")

_THREAD_NAME: Final = "fusion-cluster: work with a deadline"


def within(timeout_s: float, what: str, work: Callable[[], T]) -> T:
    """Run work within a time, or leave it behind. Ctrl-C and SIGTERM work meanwhile.

    Args:
        timeout_s: how long the work may take.
        what: names the work in the error.
        work: the work.

    Raises:
        DeadlineExceeded: the work has not ended in time.
    """
    outcome = in_thread(work)
    try:
        return outcome.result(timeout_s)
    except TimeoutError as error:
        if outcome.done():
            raise  # the work itself raised it
        raise DeadlineExceeded(f"{what} took longer than {timeout_s:g} s (--timeout)") from error


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Start work in a thread; the end of the program does not wait for it."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name=_THREAD_NAME, daemon=True).start()
    return outcome


def has_unfinished_work() -> bool:
    """Return whether work that was left behind still runs."""
    return any(thread.name == _THREAD_NAME for thread in threading.enumerate())
