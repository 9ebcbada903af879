"""Readers who look at what interests them, as travellers do: mostly the same few boards, now and then one flight."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import date

from examples.flights.services import Aircraft, Airports, Carriers, Flights, Network, WeatherReports
from examples.flights.show.traffic import TrafficMeter
from examples.flights.truth.comparison import Services
from fusion_cluster import Computed
from fusion_cluster.errors import FusionError

READERS = 4
PAUSE_S = 0.01


class Audience:
    """Reads random figures of a day until it is cancelled.

    Args:
        services: where to read.
        day: the day.
        flight_ids: its flights.
        minute: tells the time of day in New York, in minutes since midnight.
        meter: is told of each read.
        seed: of what they choose.
    """

    def __init__(
        self,
        services: Services,
        day: date,
        flight_ids: Sequence[int],
        minute: Callable[[], int],
        meter: TrafficMeter,
        *,
        seed: int = 0,
    ) -> None:
        self._day = day
        self._flight_ids = flight_ids
        self._minute = minute
        self._meter = meter
        self._random = random.Random(seed)
        self._flights = services.service(Flights)
        self._airports = services.service(Airports)
        self._carriers = services.service(Carriers)
        self._aircraft = services.service(Aircraft)
        self._network = services.service(Network)
        self._weather = services.service(WeatherReports)
        self._wishes: tuple[tuple[int, Callable[[], Computed[object]]], ...] = (
            (30, self._board),
            (25, self._flight),
            (15, self._airport),
            (15, self._carrier),
            (5, self._conditions),
            (5, lambda: self._network.by_carrier(self._day)),
        )

    async def run(self) -> None:
        """Read and read; an error that may pass (a shard is down) is only waited out."""
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(self._read())

    async def _read(self) -> None:
        weights = [weight for weight, _ in self._wishes]
        while True:
            (wish,) = self._random.choices([wish for _, wish in self._wishes], weights)
            try:
                await self._meter.read(wish())
            except FusionError as error:
                if not error.is_transient:
                    raise
            await asyncio.sleep(PAUSE_S)

    # -- wishes
    def _board(self) -> Computed[object]:
        hour = self._minute() // 60 + self._random.randrange(3)
        return self._airports.departures_at(self._origin(), self._day, hour)

    def _flight(self) -> Computed[object]:
        # Flights are numbered in the order they left: those around now are asked for most.
        place = self._random.gauss(self._minute() / 1_440 * len(self._flight_ids), len(self._flight_ids) / 20)
        return self._flights.get(self._flight_ids[max(0, min(int(place), len(self._flight_ids) - 1))])

    def _airport(self) -> Computed[object]:
        return self._airports.totals(self._random.choice(("ATL", "ORD", "LAX", "MIA", "BOS", "SFO")), self._day)

    def _carrier(self) -> Computed[object]:
        return self._carriers.totals(self._random.choice(("UA", "B6", "EV", "DL", "AA", "MQ")), self._day)

    def _conditions(self) -> Computed[object]:
        return self._weather.at(self._origin(), self._day, self._minute() // 60 % 24)

    def _origin(self) -> str:
        return self._random.choice(("EWR", "JFK", "LGA"))
