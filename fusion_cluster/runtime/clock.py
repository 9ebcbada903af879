"""Clocks: the two readings of time that the project needs.

Invariant: durations and deadlines are measured by `monotonic`, which never goes back; `wall` is for what other
processes and people read. The two are never mixed in one calculation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Two functions, so that a hot path calls the one it needs with nothing in between.

    Attributes:
        monotonic: seconds since some moment; never goes back.
        wall: seconds since 1970 in UTC; may be set forward and back.
        precise: seconds since some moment, for measuring how long something took.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    precise: Callable[[], float] = time.perf_counter


SYSTEM_CLOCK = Clock()
"""The clocks of the machine."""
