"""A histogram of latencies of bounded size and bounded relative error, after Gil Tene's HdrHistogram.

A value's bucket is its power of two and the next `PRECISION_BITS` bits below it, so a bucket is at most 1/128 of its
value wide.
"""

from __future__ import annotations

from collections import Counter

PRECISION_BITS = 7


class LatencyHistogram:
    """Counts whole microseconds; percentiles are exact to less than 1%."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._slowest_us = 0
        self.count = 0

    def record(self, latency_s: float) -> None:
        """Count one latency."""
        latency_us = max(0, round(latency_s * 1e6))
        self._counts[_bucket(latency_us)] += 1
        self._slowest_us = max(self._slowest_us, latency_us)
        self.count += 1

    @property
    def slowest_ms(self) -> float:
        """The longest, exactly."""
        return self._slowest_us / 1000

    def percentile_ms(self, percent: float) -> float:
        """What `percent` of the latencies did not exceed (the upper end of its bucket); 0 when there are none."""
        rank = max(1, -(-self.count * percent // 100))
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return min(_highest_us(bucket), self._slowest_us) / 1000
        return 0.0


def _bucket(latency_us: int) -> int:
    shift = max(0, latency_us.bit_length() - PRECISION_BITS - 1)
    return (shift << (PRECISION_BITS + 1)) + (latency_us >> shift)


def _highest_us(bucket: int) -> int:
    shift, mantissa = divmod(bucket, 1 << (PRECISION_BITS + 1))
    return ((mantissa + 1) << shift) - 1
