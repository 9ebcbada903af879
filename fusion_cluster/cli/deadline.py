"""Work that may hang where no signal reaches it: done in a thread, and left behind when its time is up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from fusion_cluster.errors import DeadlineExceeded

T = TypeVar("T")

_THREAD_NAME: Final = "fusion-cluster: work with a deadline"


def within(timeout_s: float, what: str, work: Callable[[], T]) -> T:
    """Do something that ends within a time, or is left behind; Ctrl-C and SIGTERM are heeded all the while.

    Args:
        timeout_s: how long it may take.
        what: what is done, for the error.
        work: does it.

    Raises:
        DeadlineExceeded: it has not ended in time.
    """
    outcome = in_thread(work)
    try:
        return outcome.result(timeout_s)
    except TimeoutError as error:
        if outcome.done():
            raise  # the work's own
        raise DeadlineExceeded(f"{what} took longer than {timeout_s:g} s (--timeout)") from error


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Begin something in a thread that the end of the program does not wait for."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name=_THREAD_NAME, daemon=True).start()
    return outcome


def has_unfinished_work() -> bool:
    """Whether work was left behind that has not ended to this moment."""
    return any(thread.name == _THREAD_NAME for thread in threading.enumerate())
