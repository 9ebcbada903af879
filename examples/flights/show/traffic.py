"""Counts and times what goes through the cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from examples.flights.replay.execution import Execute
from examples.flights.show.snapshot import Traffic
from fusion_cluster import Computed

T = TypeVar("T")

KEPT_LATENCIES = 2_000


class TrafficMeter:
    """Counts of this process's reads and commands.

    Args:
        clock_s: seconds that only rise.

    Attributes:
        reads: reads so far.
        hits: those of them that needed no network.
        commands: commands so far.
    """

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self.reads = 0
        self.hits = 0
        self.commands = 0
        self._clock_s = clock_s
        self._miss_latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._command_latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._last = (clock_s(), 0, 0, 0, 0)

    async def read(self, computed: Computed[T]) -> T:
        """Await the computed; a consistent one is a hit, any other a read through the gateway."""
        self.reads += 1
        if computed.is_consistent:
            self.hits += 1
            return await computed
        start_s = self._clock_s()
        value = await computed
        self._miss_latencies_s.append(self._clock_s() - start_s)
        return value

    def timed(self, execute: Execute) -> Execute:
        """The same, with its commands counted."""

        async def timed(name: str, arguments: Sequence[object], command_id: str) -> object:
            start_s = self._clock_s()
            result = await execute(name, arguments, command_id)
            self.commands += 1
            self._command_latencies_s.append(self._clock_s() - start_s)
            return result

        return timed

    def take(self, invalidations: int) -> Traffic:
        """The traffic since the last `take`.

        Args:
            invalidations: how many there were in the whole cluster so far; less than before when a shard restarted.
        """
        now = (self._clock_s(), self.reads, self.hits, self.commands, invalidations)
        passed_s, reads, hits, commands, invalidated = (
            after - before for after, before in zip(now, self._last, strict=True)
        )
        self._last = now
        passed_s = max(passed_s, 1e-9)
        return Traffic(
            reads_per_s=reads / passed_s,
            hit_rate=hits / reads if reads else 0.0,
            miss_p50_ms=quantile(self._miss_latencies_s, 0.5) * 1_000,
            miss_p99_ms=quantile(self._miss_latencies_s, 0.99) * 1_000,
            commands_per_s=commands / passed_s,
            command_p50_ms=quantile(self._command_latencies_s, 0.5) * 1_000,
            invalidations_per_s=max(0.0, invalidated / passed_s),
        )


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
