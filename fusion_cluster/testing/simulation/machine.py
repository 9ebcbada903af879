"""A simulated machine: the work that waits on it, its clock, its pauses and its end.

Invariant: what a machine has scheduled runs in the order in which it was scheduled, as asyncio promises; nothing of a
machine runs while it is paused, nor after its crash.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import Any, Final, Protocol

from fusion_cluster.runtime import Clock, Runtime
from fusion_cluster.testing.simulation.chance import Chance

STARTS_AT_S: Final = 1_800_000_000.0
"""What every wall shows at the start, in seconds since 1970, but for its skew."""


class Time(Protocol):
    """The time of a simulation.

    Attributes:
        now_s: seconds since its start.
    """

    now_s: float


class Machine:
    """One machine of a simulation, in one incarnation.

    Args:
        time: the simulation's time.
        name: its name; a restarted machine has the name of the one before.
        number: distinguishes it from all other machines of the simulation, incarnations included.
        chance: the random numbers of what runs on it.
        skew_s: what its clocks are ahead of the simulation's.
        rate: how many of its seconds pass in one of the simulation's.

    Attributes:
        runtime: the runtime of what runs on it.
        ready: the work that can run now, oldest first.
        tasks: all tasks that it has made and that have not ended.
        is_dead: it has crashed.
        is_runnable: it has work that can run now.
        is_paused: it is stopped for now, as by SIGSTOP; its clock goes on.
    """

    __slots__ = (
        *("_rate", "_skew_s", "_time"),
        *("is_dead", "is_paused", "is_runnable", "name", "number", "ready", "runtime", "tasks"),
    )

    def __init__(
        self, time: Time, name: str, number: int, chance: Chance, *, skew_s: float = 0.0, rate: float = 1.0
    ) -> None:
        self._time = time
        self._skew_s = skew_s
        self._rate = rate
        self.name = name
        self.number = number
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.is_dead = False
        self.is_paused = False
        self.is_runnable = False
        self.runtime = Runtime(Clock(self.now_s, self.wall_s, self.now_s), chance)

    def __repr__(self) -> str:
        return f"<{self.name} ({self.number})>"

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Forget a task that has ended."""
        self.tasks.pop(task, None)

    def now_s(self) -> float:
        """Return what its monotonic clock shows."""
        return self._time.now_s * self._rate + self._skew_s

    def wall_s(self) -> float:
        """Return what its wall clock shows."""
        return STARTS_AT_S + self._time.now_s * self._rate + self._skew_s

    def global_s(self, when_s: float) -> float:
        """Return when, on the simulation's clock, its own clock shows `when_s`."""
        return (when_s - self._skew_s) / self._rate


current_machine: Final[ContextVar[Machine]] = ContextVar("fusion_cluster_simulated_machine")
"""The machine to which a context belongs. A context without it belongs to the machine whose work runs."""
