"""Zipf's law: of things that people ask for, the k-th most wanted is asked for about 1/k as often as the first."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class ZipfSampler(Generic[T]):
    """Draws items with probability proportional to 1 / rank ** exponent.

    Args:
        items: the most wanted first; not empty.
        exponent: 0 is uniform, 1 is Zipf's law; more is more concentrated.
        seed: two samplers with the same seed draw the same.
    """

    def __init__(self, items: Sequence[T], *, exponent: float = 1.0, seed: int | None = None) -> None:
        if not items:
            raise ValueError("there is nothing to draw from")
        self._items = items
        self._cumulative = list(accumulate(1 / rank**exponent for rank in range(1, len(items) + 1)))
        self._random = random.Random(seed)

    def draw(self) -> T:
        """One item."""
        return self._items[bisect(self._cumulative, self._random.random() * self._cumulative[-1])]
