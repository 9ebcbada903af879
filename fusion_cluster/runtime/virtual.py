"""A runtime on the event loop's own time: in a loop whose clock jumps, everything runs in virtual time."""

from __future__ import annotations

import asyncio

from fusion_cluster.runtime.clock import Clock
from fusion_cluster.runtime.entropy import SeededEntropy
from fusion_cluster.runtime.runtime import Runtime


class LoopClock:
    """The wall clock of an event loop in virtual time.

    Args:
        loop: whose time it is.
        starts_at_s: what the wall shows at the loop's time 0, in seconds since 1970.

    Attributes:
        ahead_s: how far somebody has set the wall clock forward (or back, if negative) since.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, starts_at_s: float) -> None:
        self._loop = loop
        self._starts_at_s = starts_at_s
        self.ahead_s = 0.0

    def __call__(self) -> float:
        """What the wall shows."""
        return self._starts_at_s + self.ahead_s + self._loop.time()


class VirtualRuntime(Runtime):
    """Takes the time from an event loop, and random numbers from a seed.

    Args:
        seed: of the random numbers.
        starts_at_s: what the wall shows at the loop's time 0, in seconds since 1970.
        loop: whose time it is; None: the running one.

    Attributes:
        wall_clock: can be set forward and back.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        starts_at_s: float = 1_800_000_000.0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        loop = loop or asyncio.get_running_loop()
        self.wall_clock = LoopClock(loop, starts_at_s)
        super().__init__(Clock(loop.time, self.wall_clock, loop.time), SeededEntropy(seed))
