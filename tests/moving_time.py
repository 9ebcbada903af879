"""Time that a test moves forward: the event loop's and a runtime's wall, while files, sockets and threads take theirs.

`pytest_plugins` of a test module names it, and the test asks for the fixture `moving_time`. In contrast to virtual time
it goes on by itself, too, as databases need it to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fusion_cluster.runtime import Clock, Runtime


class MovingTime:
    """The clocks of the loop that runs and of the wall, and what they are ahead of the real ones.

    Attributes:
        runtime: has that wall.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        self._stands_at_s: float | None = None
        loop = asyncio.get_running_loop()
        self._real_time = loop.time
        self._behind_s = time.time() - loop.time()
        self.runtime = Runtime(Clock(wall=self.wall))
        monkeypatch.setattr(loop, "time", self._time)

    def wall(self) -> float:
        """What the wall shows."""
        return self._time() + self._behind_s

    def _time(self) -> float:
        return (self._real_time() if self._stands_at_s is None else self._stands_at_s) + self._ahead_s

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """In this block only `advance` moves it, however long things take; nothing in it may sleep."""
        stands_at_s = self._stands_at_s = self._real_time()
        try:
            yield
        finally:
            self._stands_at_s = None
            self._ahead_s -= self._real_time() - stands_at_s

    def advance(self, by_s: float) -> None:
        """Let that much time pass at once: timers that end meanwhile do so in the next turn of the loop."""
        self._ahead_s += by_s


@pytest.fixture
async def moving_time(monkeypatch: pytest.MonkeyPatch) -> MovingTime:
    """The time of the test's event loop."""
    return MovingTime(monkeypatch)
