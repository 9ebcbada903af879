"""How long a `ComputedState` waits, after it was invalidated, before it computes again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol


class UpdateDelayer(Protocol):
    """Paces the updates of a `ComputedState`."""

    async def delay(self, retry_count: int) -> None:
        """Wait until the next update may begin.

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
    """

    delay_s: float = 0.0
    retry_delay_s: float = 1.0

    async def delay(self, retry_count: int) -> None:
        """Wait."""
        await asyncio.sleep(max(self.delay_s, self.retry_delay_s) if retry_count else self.delay_s)
