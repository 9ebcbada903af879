"""Chance: a stream of decisions that a seed determines, one stream for each part of a simulation.

Invariant: parts do not share a stream, so that one more decision of one part leaves those of the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from fusion_cluster.runtime import SeededEntropy

T = TypeVar("T")

_STREAM_SPREAD: Final = 1_000_003
"""Seeds times this, plus the number of a stream, are the seeds of the streams."""


class Chance(SeededEntropy):
    """Decisions of one part of a simulation.

    Args:
        seed: the seed of the simulation.
        stream: the number of the part.
    """

    def __init__(self, seed: int, stream: int) -> None:
        super().__init__(seed * _STREAM_SPREAD + stream)

    def index(self, count: int) -> int:
        """Return a number from 0 to `count`, without `count`."""
        return int(self.random() * count)

    def between(self, least: int, most: int) -> int:
        """Return a whole number between two others, both included."""
        return least + self.index(most - least + 1)

    def choice(self, among: Sequence[T]) -> T:
        """Return one of several."""
        return among[self.index(len(among))]

    def happens(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.random() < probability
