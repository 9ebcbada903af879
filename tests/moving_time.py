"""Time that a test moves forward: the event loop's and the wall's, while files, sockets and threads take theirs.

`pytest_plugins` of a test module names it, and the test asks for the fixture `moving_time`. In contrast to virtual time
it goes on by itself, too, as databases need it to.
"""

from __future__ import annotations

import asyncio
import time

import pytest


class MovingTime:
    """The clocks of the loop that runs and of the wall, and what they are ahead of the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        loop = asyncio.get_running_loop()
        loop_time, wall_time = loop.time, time.time
        monkeypatch.setattr(loop, "time", lambda: loop_time() + self._ahead_s)
        monkeypatch.setattr(time, "time", lambda: wall_time() + self._ahead_s)

    def advance(self, by_s: float) -> None:
        """Let that much time pass at once: timers that end meanwhile do so in the next turn of the loop."""
        self._ahead_s += by_s


@pytest.fixture
async def moving_time(monkeypatch: pytest.MonkeyPatch) -> MovingTime:
    """The time of the test's event loop."""
    return MovingTime(monkeypatch)
