"""Measures how long the bodies of an app's methods take: counts, totals and histograms, for each method.

The histogram is logarithmic (like HdrHistogram, G. Tene): four buckets for each doubling. So the error of a quantile is
at most a fifth, from a microsecond to hours, and each method needs a fixed number of counters.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any, Final

from fusion_cluster.middleware.call import Call, CallKind, Next
from fusion_cluster.quantities import as_number
from fusion_cluster.runtime import SYSTEM_CLOCK

BUCKETS_PER_DOUBLING: Final = 4
FIRST_S: Final = 1e-6
"""Calls that take no longer than this are counted in the first bucket."""
BUCKETS: Final = 34 * BUCKETS_PER_DOUBLING
"""The last bucket also holds calls that take 1.2 hours or longer (a millionth of a second, doubled 32 times)."""


class MethodTimes:
    """The durations and outcomes of the calls of one method.

    Attributes:
        name: "Products.get".
        kind: "command" or "compute".
        count: how many calls have ended, in any way.
        error_count: how many of them ended with an error.
        cancelled_count: how many of them were cancelled.
        total_s: how long they took together.
        max_s: how long the longest took.
    """

    __slots__ = ("_buckets", "cancelled_count", "count", "error_count", "kind", "max_s", "name", "total_s")

    def __init__(self, name: str, kind: CallKind) -> None:
        self.name = name
        self.kind: CallKind = kind
        self.count = 0
        self.error_count = 0
        self.cancelled_count = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self._buckets = [0] * BUCKETS

    def __repr__(self) -> str:
        return f"<MethodTimes {self.name}: {self.count} calls, {self.total_s:.3f} s>"

    @property
    def mean_s(self) -> float:
        """How long the calls took on average; 0 without calls."""
        return self.total_s / self.count if self.count else 0.0

    def quantile_s(self, share: float) -> float:
        """Return how long this share of the calls took at most: 0.5 gives the median. Returns 0 without calls.

        The result is the upper bound of a bucket: at most 19 % above the exact figure, and never more than `max_s`.

        Raises:
            UsageError: the share is not between 0 and 1.
        """
        share = as_number("share", share, "a number from 0 to 1", most=1.0)
        remaining = max(1, math.ceil(share * self.count))
        for index, count in enumerate(self._buckets):
            remaining -= count
            if remaining <= 0:
                return min(self.max_s, FIRST_S * 2 ** (index / BUCKETS_PER_DOUBLING))
        return self.max_s

    def histogram(self) -> list[tuple[float, int]]:
        """Return the buckets that are not empty: upper bound in seconds (infinite for the last), number of calls."""
        last = BUCKETS - 1
        return [
            (math.inf if index == last else FIRST_S * 2 ** (index / BUCKETS_PER_DOUBLING), count)
            for index, count in enumerate(self._buckets)
            if count
        ]

    def _add(self, duration_s: float) -> None:
        self.count += 1
        self.total_s += duration_s
        self.max_s = max(self.max_s, duration_s)
        doublings = math.log2(duration_s / FIRST_S) if duration_s > FIRST_S else 0.0
        self._buckets[min(BUCKETS - 1, math.ceil(doublings * BUCKETS_PER_DOUBLING))] += 1


class Timing:
    """Middleware that measures how long the bodies of methods take, in this process.

    The time of a body includes its waits: for dependencies that are computed meanwhile, the database, its turn in a
    thread. Hits and reads of replicas do not pass here, so `count` of a compute method says how often it was computed
    here. Put it first to include all other middleware, last to measure the bodies alone.

    It takes about a kilobyte for each method that was called. It may be read from any thread.

    >>> timing = Timing()
    >>> app = App("shop", services=[Products], middleware=[timing])
    >>> print(timing.table())

    Args:
        clock: returns seconds, and never goes back.
    """

    def __init__(self, *, clock: Callable[[], float] = SYSTEM_CLOCK.precise) -> None:
        self._clock = clock
        self._times: dict[str, MethodTimes] = {}
        self._lock = threading.Lock()  # an app may be hosted in several threads of a process

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let the call through, and count it when it has ended."""
        began_s = self._clock()
        try:
            result = await next(call)
        except asyncio.CancelledError:
            self._ended(call, began_s, cancelled=1)
            raise
        except BaseException:
            self._ended(call, began_s, failed=1)
            raise
        self._ended(call, began_s)
        return result

    @property
    def methods(self) -> dict[str, MethodTimes]:
        """The measurements of each method that was called, by full name."""
        with self._lock:
            return dict(self._times)

    def reset(self) -> None:
        """Forget all measurements."""
        with self._lock:
            self._times = {}

    def table(self) -> str:
        """Return a table of all methods for people, in milliseconds; the largest total comes first."""
        head = ("method", "kind", "calls", "errors", "cancelled", "total ms", "mean", "p50", "p99", "max")
        rows: list[tuple[str, ...]] = [head]
        for times in sorted(self.methods.values(), key=lambda times: times.total_s, reverse=True):
            counts = (times.count, times.error_count, times.cancelled_count)
            durations_s = (times.mean_s, times.quantile_s(0.5), times.quantile_s(0.99), times.max_s)
            rows.append(
                (
                    *(times.name, times.kind, *map(str, counts), f"{1000 * times.total_s:.1f}"),
                    *(f"{1000 * duration_s:.3f}" for duration_s in durations_s),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join(_line(row, widths) for row in rows)

    def _ended(self, call: Call, began_s: float, *, failed: int = 0, cancelled: int = 0) -> None:
        duration_s = self._clock() - began_s
        with self._lock:
            times = self._times.get(call.name)
            if times is None:
                times = self._times[call.name] = MethodTimes(call.name, call.kind)
            times.error_count += failed
            times.cancelled_count += cancelled
            times._add(duration_s)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    texts = row[:2]
    cells = [cell.ljust(width) for cell, width in zip(texts, widths, strict=False)]
    cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join(cells)
