"""Virtual time for tests: an event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: what it would have waited is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen: all tasks wait, and no timer runs")
            self.now_s += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # A timer is due when the clock is this close to it: more than what floats tell apart after some years.
        self._clock_resolution = 1e-7

    def time(self) -> float:
        return self._jumping.now_s


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class WallClock:
    """Stands for `time.time` in virtual time: `monkeypatch.setattr(time, "time", WallClock())`.

    Attributes:
        ahead_s: how far somebody has set it forward, or back, since.
    """

    def __init__(self, starts_at_s: float = 1_800_000_000.0) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._zero_s = starts_at_s - loop.time()
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return self._zero_s + self._loop.time() + self.ahead_s
