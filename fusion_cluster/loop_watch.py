"""Watches an event loop from a thread: logs what blocks the loop, and notices its end.

A process whose event loop is blocked cannot serve calls, and cannot report it by itself. A process whose loop has ended
(`loop.stop()`, or `sys.exit()` in a user's callback or in a task that does not come from a body) never serves again,
although it still looks alive from outside.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import Any, Final

from fusion_cluster.commands.command import BoundCommand
from fusion_cluster.graph.computing.computation import Computation
from fusion_cluster.graph.why.abridged import abridged_arguments
from fusion_cluster.quantities import as_delay
from fusion_cluster.runtime import SYSTEM_CLOCK

logger = logging.getLogger(__name__)

DEFAULT_BLOCKED_S: Final = 1.0
SETTING: Final = "FUSION_BLOCKED_LOOP_S"

LONGEST_PERIOD_S: Final = 0.5
MAX_FRAMES: Final = 15
EXIT_STATUS: Final = 70
"""The exit status of a process whose event loop has ended: an internal error (EX_SOFTWARE)."""


def blocked_loop_s(environment: Mapping[str, str]) -> float:
    """Return how long an event loop may be blocked before that is logged, by the setting; infinite: no limit.

    Raises:
        InvalidArgument: the setting makes no sense.
    """
    said: str | float = environment.get(SETTING, DEFAULT_BLOCKED_S)
    with suppress(ValueError):
        said = float(said)
    return as_delay(SETTING, said) or math.inf


class Pulse:
    """Remembers when the loop last answered, and whether its present silence is reported; each is reported once.

    Args:
        blocked_s: how long the loop may be silent.
        period_s: how often the loop is asked.
        now_s: the time by a monotonic clock.
    """

    def __init__(self, blocked_s: float, period_s: float, now_s: float) -> None:
        self._blocked_s = blocked_s
        self._period_s = period_s
        self._heard_s = self._looked_s = now_s
        self._is_told = False

    def heard(self, now_s: float) -> float:
        """Note that the loop runs. Return how long it was silent before if that was reported, else 0."""
        silent_s = now_s - self._heard_s if self._is_told else 0.0
        self._heard_s, self._is_told = now_s, False
        return silent_s

    def silent_s(self, now_s: float) -> float:
        """Return how long the loop has been silent if that must be reported now, else 0."""
        late_s = now_s - self._looked_s - self._period_s
        self._looked_s = now_s
        if late_s > self._period_s:  # this thread did not run either: the process was stopped, or the machine is busy
            self._heard_s += late_s
        silent_s = now_s - self._heard_s
        if self._is_told or silent_s < self._blocked_s:
            return 0.0
        self._is_told = True
        return silent_s


class LoopWatch:
    """Watches the event loop that runs where it is made, from `start` to `stop`.

    Args:
        name: names the loop's owner in the log: "shard 3".
        on_ended: called in the watching thread when the loop has ended without `stop`; None: nothing is called.
        blocked_s: how long the loop may be blocked before that is logged; infinite or 0: no limit; None: what the
            setting `FUSION_BLOCKED_LOOP_S` says.
        clock: a monotonic clock.
    """

    def __init__(
        self,
        name: str,
        *,
        on_ended: Callable[[str], object] | None = None,
        blocked_s: float | None = None,
        clock: Callable[[], float] = SYSTEM_CLOCK.monotonic,
    ) -> None:
        self._blocked_s = blocked_loop_s(os.environ) if blocked_s is None else blocked_s or math.inf
        self._name = name
        self._on_ended = on_ended
        self._clock = clock
        self._period_s = min(LONGEST_PERIOD_S, self._blocked_s / 4)
        self._pulse = Pulse(self._blocked_s, self._period_s, clock())
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._is_asked = False
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch the loop of {name}", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns when the thread has ended. From now on the loop may end without a report."""
        self._is_stopped.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    # -- in the thread -----------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        while not self._is_stopped.wait(self._period_s):
            if not self._loop.is_running() or not self._ask():
                if not self._is_stopped.is_set():
                    self._tell_end()
                return
            silent_s = self._pulse.silent_s(self._clock())
            if silent_s:
                logger.warning(
                    "the event loop of %s has been blocked for %.1f s by %s", self._name, silent_s, self._blocking()
                )

    def _ask(self) -> bool:
        if self._is_asked:
            return True
        self._is_asked = True
        try:
            self._loop.call_soon_threadsafe(self._answer, context=Context())
        except RuntimeError:  # it is closed
            return False
        return True

    def _answer(self) -> None:
        """Note, on the loop, that the loop runs."""
        self._is_asked = False
        silent_s = self._pulse.heard(self._clock())
        if silent_s:
            logger.info("the event loop of %s runs again after %.1f s", self._name, silent_s)

    def _tell_end(self) -> None:
        logger.critical("the event loop of %s has ended: something has stopped it", self._name)
        if self._on_ended is not None:
            self._on_ended(self._name)

    def _blocking(self) -> str:
        """Return what the loop's thread runs now, and where."""
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return "something that cannot be seen"
        stack = "".join(traceback.format_stack(frame)[-MAX_FRAMES:])
        return f"{_call_in(frame)}:\n{stack}"


def _call_in(frame: FrameType) -> str:
    """Return the call of a user's method that runs in a thread now."""
    for one in _callers(frame):
        try:
            if one.f_code is Computation._run.__code__:
                node: Any = one.f_locals["node"]
                return f"{node.function.name}({abridged_arguments(node.arguments)})"
            if one.f_code is BoundCommand.body.__code__:
                return f"{one.f_locals['self'].name}({abridged_arguments(one.f_locals['arguments'])})"
        except Exception:  # the thread goes on meanwhile
            logger.debug("what runs cannot be seen", exc_info=True)
    return "something that is not a method of a service"


def _callers(frame: FrameType) -> Iterator[FrameType]:
    found: FrameType | None = frame
    while found is not None:
        yield found
        found = found.f_back


def leave_process(_name: str) -> None:
    """End this process at once, so that it is started again. Exit handlers do not run: they might wait for the loop."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the stream is closed
            stream.flush()
    os._exit(EXIT_STATUS)
