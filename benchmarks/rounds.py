"""Rounds that take turns: what several ways to do one thing cost, when nothing else has the processor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

Batch = Callable[[int], Awaitable[float]]
"""Does something so many times; gives the seconds that it took."""


@dataclass(frozen=True)
class Rounds:
    """How often and how long something is measured.

    Attributes:
        count: rounds that count.
        round_s: seconds of each.
    """

    count: int
    round_s: float


async def best_of(batches: Mapping[str, Batch], *, rounds: int, calls: int) -> dict[str, float]:
    """Run the batches in turns; return the nanoseconds per call of the best round of each."""
    best_s = dict.fromkeys(batches, float("inf"))
    for _ in range(rounds):
        for name, batch in batches.items():
            best_s[name] = min(best_s[name], await batch(calls))
    return {name: seconds / calls * 1e9 for name, seconds in best_s.items()}
