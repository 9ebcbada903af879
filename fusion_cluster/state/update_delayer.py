"""How long a `ComputedState` waits, after it was invalidated or has failed, before it computes again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fusion_cluster.errors import UsageError
from fusion_cluster.quantities import LONGEST_S, MOST, as_delay, as_finite_delay, as_number
from fusion_cluster.runtime import SYSTEM


class UpdateDelayer(Protocol):
    """Paces the updates of a `ComputedState`. One delayer may serve any number of states.

    Before a retry a state waits 0.05 s at least, whatever its delayer says, so that none keeps a processor busy.
    """

    async def delay(self, retry_count: int) -> None:
        """Wait until the next update may begin. Is cancelled when that is to begin earlier.

        Args:
            retry_count: how many transient errors in a row the last computations ended with.
        """
        ...


@dataclass(frozen=True)
class FixedDelayer:
    """Waits the same time before each update.

    Attributes:
        delay_s: that time; 0 updates in the next turn of the event loop.
        retry_delay_s: the time before an update that follows a transient error, if that is longer.

    Raises:
        UsageError: a time is negative; `field` names it.
    """

    delay_s: float = 0.0
    retry_delay_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("delay_s", "retry_delay_s"):
            object.__setattr__(self, name, as_delay(name, getattr(self, name)))

    async def delay(self, retry_count: int) -> None:
        """Wait."""
        await asyncio.sleep(max(self.delay_s, self.retry_delay_s) if retry_count else self.delay_s)


@dataclass(frozen=True)
class BackoffDelayer:
    """Waits longer after each further transient error, so that what is in trouble is left alone more and more.

    The n-th retry waits `first_retry_delay_s * factor ** (n - 1)`, give or take `jitter`, and never longer than
    `max_retry_delay_s`. The first success begins anew.

    Attributes:
        delay_s: the time before an update that follows no error; a retry never waits less.
        first_retry_delay_s: the time before the first retry.
        factor: by how much each further one is longer, 1 or more.
        max_retry_delay_s: the cap.
        jitter: the share of a retry's delay, from 0 to 1, by which it is shortened or prolonged at random, so that
            those who failed together do not try again together.
        random: gives numbers from 0 to 1.

    Raises:
        UsageError: a number is out of its range; `field` names it.
    """

    delay_s: float = 0.0
    first_retry_delay_s: float = 1.0
    factor: float = 2.0
    max_retry_delay_s: float = 60.0
    jitter: float = 0.1
    random: Callable[[], float] = SYSTEM.entropy.random

    def __post_init__(self) -> None:
        keep = object.__setattr__
        for name in ("delay_s", "max_retry_delay_s"):
            keep(self, name, as_delay(name, getattr(self, name)))
        keep(self, "first_retry_delay_s", as_finite_delay("first_retry_delay_s", self.first_retry_delay_s))
        keep(self, "factor", as_number("factor", self.factor, "a finite number, 1 or more", least=1.0, most=MOST))
        keep(self, "jitter", as_number("jitter", self.jitter, "a number from 0 to 1", most=1.0))
        if not self.max_retry_delay_s >= self.first_retry_delay_s:
            raise UsageError("max_retry_delay_s must not be less than first_retry_delay_s", field="max_retry_delay_s")

    def retry_delay_s(self, retry_count: int) -> float:
        """Return the seconds before the retry of this number, 1 being the first; another each time, by the jitter."""
        cap_s = min(self.max_retry_delay_s, LONGEST_S)
        try:
            delay_s = min(self.first_retry_delay_s * self.factor ** (retry_count - 1), cap_s)
        except OverflowError:
            delay_s = cap_s
        shortest_s = delay_s * (1 - self.jitter)
        longest_s = min(delay_s * (1 + self.jitter), cap_s)
        return shortest_s + (longest_s - shortest_s) * self.random()

    async def delay(self, retry_count: int) -> None:
        """Wait."""
        await asyncio.sleep(max(self.delay_s, self.retry_delay_s(retry_count)) if retry_count else self.delay_s)
