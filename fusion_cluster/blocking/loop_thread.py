"""Runs an event loop in a thread of its own, with an async context that is open for as long as the thread runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from fusion_cluster.blocking.portal import SLICE_S
from fusion_cluster.bodies.crossing import Answer, Outcome
from fusion_cluster.failures.exits import in_words
from fusion_cluster.forks import watch_forks
from fusion_cluster.loop_watch import LoopWatch

logger = logging.getLogger(__name__)

H = TypeVar("H")

ExitInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class LoopThread(Generic[H]):
    """Opens an async context in a new event loop in a new thread.

    Args:
        context: the context to open.

    Attributes:
        loop: the event loop; set once `start` has returned.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, context: AbstractAsyncContextManager[H]) -> None:
        self._context = context
        self._opened: Answer = concurrent.futures.Future()
        self._closed: Answer = concurrent.futures.Future()
        self._exit_info: ExitInfo = (None, None, None)
        self._main: asyncio.Task[None] | None = None
        self._is_given_up = False
        self._is_suppressed = False
        self._is_forked = False
        self._told_to_stop: asyncio.Event
        self._thread = threading.Thread(target=self._work, name="fusion-loop", daemon=True)
        watch_forks(self)

    def start(self) -> H:
        """Open the context, and return what it gives.

        Raises:
            Exception: the exception that the context raised.
        """
        self._thread.start()
        try:
            host: H = _result_of(self._opened)
        except BaseException:
            self._cancel()
            raise
        else:
            return host

    def stop(self, exit_info: ExitInfo = (None, None, None)) -> bool:
        """Close the context, then end the loop and the thread.

        Args:
            exit_info: the exception that the caller leaves with; the context gets it.

        Returns:
            Whether the context has suppressed the exception.

        Raises:
            Exception: the exception that the context raised when it was closed.
        """
        if self._is_forked:
            return False
        self._exit_info = exit_info
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._told_to_stop.set)
        try:
            return bool(_result_of(self._closed))
        except BaseException:
            self._cancel()
            raise
        finally:
            self._exit_info = (None, None, None)

    def on_forked(self) -> None:
        """Note that this is a copy: the thread was not copied, so nothing has to be stopped here."""
        self._is_forked = True

    def _cancel(self) -> None:
        self._is_given_up = True
        if self._main is not None:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._main.cancel)

    # -- in the thread -----------------------------------------------------------------------------------------------
    def _work(self) -> None:
        try:
            with asyncio.Runner() as runner:
                loop = runner.get_loop()
                self._run(loop, loop.create_task(self._hold_open()))
        except BaseException as error:
            self._fail(error)
        else:
            self._closed.set_result(Outcome(self._is_suppressed))

    def _run(self, loop: asyncio.AbstractEventLoop, main: asyncio.Task[None]) -> None:
        """Run the loop until the context is closed, even if a user's task or callback tries to end it before."""
        while not main.done():
            try:
                loop.run_until_complete(main)
            except BaseException as error:
                if main.done():
                    raise
                # It is SystemExit or KeyboardInterrupt, which asyncio lets through, or `loop.stop()`.
                logger.error("something has stopped the event loop, which goes on: %s", in_words(error), exc_info=error)

    async def _hold_open(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._told_to_stop = asyncio.Event()
        if self._is_given_up:
            raise asyncio.CancelledError
        host = await self._context.__aenter__()
        self._opened.set_result(Outcome(host))
        watch = LoopWatch("the blocking host")
        watch.start()
        try:
            await self._told_to_stop.wait()
        finally:
            watch.stop()
            self._is_suppressed = bool(await self._context.__aexit__(*self._exit_info))

    def _fail(self, error: BaseException) -> None:
        """Give the error to the waiting `start` or `stop`. `stop` does not get back the exception that it has given."""
        if not self._opened.done():
            self._opened.set_result(Outcome(error=error))
        elif error is self._exit_info[1]:
            self._closed.set_result(Outcome(False))
        else:
            self._closed.set_result(Outcome(error=error))


def _result_of(future: Answer) -> Any:
    """Wait for a result, in slices that let Ctrl-C through."""
    while not future.done():
        concurrent.futures.wait((future,), SLICE_S)
    return future.result().give()
