"""Traces of keys for caches: the same for the same seed, on every machine and Python."""

from __future__ import annotations

import itertools
import random


def zipf_trace(*, keys: int, length: int, seed: int, exponent: float = 1.0) -> list[int]:
    """Return keys of `range(keys)`, drawn with probability ∝ 1 / rank ** exponent.

    Args:
        keys: how many there are; which of them have which rank is random.
        length: of the trace.
        seed: of the random numbers.
        exponent: how uneven the keys are; 0.7 to 1.1 in what caches of the web are asked for.
    """
    draw = random.Random(seed)
    ranked = list(range(keys))
    draw.shuffle(ranked)
    weights = list(itertools.accumulate(rank**-exponent for rank in range(1, keys + 1)))
    return draw.choices(ranked, cum_weights=weights, k=length)


def scan_heavy_trace(*, keys: int, length: int, seed: int, scan: int) -> list[int]:
    """Return a Zipf trace with sequential scans in it: half of the trace, in runs of `scan` keys.

    The scans go round and round through as many other keys (`range(keys, 2 * keys)`), so that each key of them is read
    again after all the others.
    """
    scanned = itertools.cycle(range(keys, 2 * keys))
    drawn = zipf_trace(keys=keys, length=length, seed=seed)
    trace: list[int] = []
    for begin in itertools.count(0, scan):
        trace += drawn[begin : begin + scan]
        trace += itertools.islice(scanned, scan)
        if len(trace) >= length:
            return trace[:length]
    raise AssertionError("unreachable")
