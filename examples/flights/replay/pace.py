"""When to apply what: a day squeezed into so many seconds, with the empty hours of the night cut short."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

LONGEST_GAP_MIN = 5


def due_times_s(minutes: Sequence[int], seconds: float) -> list[float]:
    """For each event's minute, the seconds after the start at which it is due; the last is due after `seconds`.

    Args:
        minutes: when the events happened, in order.
        seconds: how long the whole is to take; 0: everything is due at once.
    """
    if not minutes:
        return []
    passed = [0]
    for before, after in pairwise(minutes):
        passed.append(passed[-1] + min(after - before, LONGEST_GAP_MIN))
    scale = seconds / passed[-1] if passed[-1] else 0.0
    return [minute * scale for minute in passed]
