"""What users ask for: airports and flights of a day, the most wanted first, and which flights a writer may change."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DAY = "2013-07-10"
"""The day of examples/flights that its replay plays by default."""

SEED = 20130710


@dataclass
class Population:
    """The airports and flights of a day.

    Attributes:
        origins: airports that flights leave, the busiest first.
        destinations: airports that flights go to, the busiest first.
        flight_ids: flights in an order of popularity that is the same in each run.
    """

    origins: Sequence[str]
    destinations: Sequence[str]
    flight_ids: Sequence[int]
    _writers: itertools.count[int] = field(default_factory=itertools.count, repr=False)
    _readers: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def reader_seed(self) -> int:
        """A seed of its own for each reader, the same ones in each run."""
        return SEED + next(self._readers)

    def flights_of_next_writer(self, writers: int) -> Sequence[int]:
        """Flights that no other of so many writers changes, so that a writer knows what it must read."""
        return self.flight_ids[next(self._writers) % writers :: writers]


def population_of(
    by_origin: Mapping[str, Mapping[str, Any]],
    by_destination: Mapping[str, Mapping[str, Any]],
    boards: Sequence[Sequence[Mapping[str, Any]]],
) -> Population:
    """A population from what the gateway says of a day.

    Args:
        by_origin: the value of `Network.by_origin`.
        by_destination: the value of `Network.by_destination`.
        boards: the values of `Airports.departures_board`, one for each origin.
    """
    flight_ids = sorted(line["flight_id"] for board in boards for line in board)
    random.Random(SEED).shuffle(flight_ids)
    return Population(by_flights(by_origin), by_flights(by_destination), flight_ids)


def by_flights(totals: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The airports with the most flights first; those with as many by their code."""
    return sorted(totals, key=lambda airport: (-totals[airport]["flights"], airport))
