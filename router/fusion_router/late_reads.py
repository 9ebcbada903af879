"""Reads of other processes that still compute, and until when their callers wait.

A caller reports by itself that it gives a read up. This is for callers that cannot: they are stopped, or cut off.

Invariant: a timer runs while there is a read in here, and no read stays for longer than `PERIOD_S` after its time.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from fusion_cluster.runtime import Runtime

PERIOD_S: Final = 0.1
"""How often the reads are checked."""

GRACE_S: Final = 0.1
"""How long a read goes on after its deadline: in this time its caller can renew it, or give it up by itself."""


class WaitingRead(Protocol):
    """A read that has a waiting caller."""

    def give_up(self) -> None:
        """Notify its caller that the time is up, and release the computation."""
        ...


class LateReads:
    """Gives up the reads whose time is up.

    Args:
        runtime: its clock gives their deadlines.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.clock_s = runtime.clock.monotonic
        # Read -> when it is given up.
        self._until_s: dict[WaitingRead, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._until_s)

    def add(self, read: WaitingRead, deadline_s: float) -> None:
        """Give a read up some time after the deadline, unless it is discarded before."""
        self._until_s[read] = deadline_s + GRACE_S
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._on_timer)

    def discard(self, read: WaitingRead) -> None:
        """Forget a read: it is answered, or its caller has left."""
        self._until_s.pop(read, None)

    def close(self) -> None:
        """Forget all."""
        self._until_s.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        now_s = self.clock_s()
        for read in [read for read, until_s in self._until_s.items() if until_s <= now_s]:
            if self._until_s.pop(read, None) is not None:
                read.give_up()
        if self._until_s and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._on_timer)
