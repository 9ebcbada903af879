"""Takes the snapshots: reads, through the gateway, what the screen shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date

from examples.flights.replay.replay import ReplayProgress
from examples.flights.services import Airports, Carriers, History, Network
from examples.flights.show.snapshot import OutsideRead, Snapshot
from examples.flights.show.traffic import TrafficMeter
from examples.flights.truth.comparison import Services
from fusion_cluster import gather
from fusion_cluster.errors import FusionError
from fusion_shards.configuration import ClusterStatus


class Observer:
    """Sees one day at one airport.

    Args:
        services: where to read.
        progress: of the replay.
        meter: is told of each read.
        status: asks the members how they are.
        day: the day.
        airport: whose departures board to show.
        address: of the gateway, to be shown.

    Attributes:
        snapshot: the newest one.
    """

    def __init__(
        self,
        services: Services,
        progress: ReplayProgress,
        meter: TrafficMeter,
        status: Callable[[], Awaitable[ClusterStatus]],
        *,
        day: date,
        airport: str,
        address: str,
    ) -> None:
        self.snapshot = Snapshot(day, progress.minute, address, 0, progress.total, 0, airport)
        self._airports = services.service(Airports)
        self._carriers = services.service(Carriers)
        self._history = services.service(History)
        self._network = services.service(Network)
        self._progress = progress
        self._meter = meter
        self._status = status

    async def look(self) -> Snapshot:
        """Take a snapshot; what cannot be read now (a shard is down) is shown as it was."""
        progress, day, airport = self._progress, self.snapshot.day, self.snapshot.airport
        self.snapshot = replace(
            self.snapshot, minute=progress.minute, confirmed=progress.confirmed, retries=progress.retries
        )
        try:
            await self._read(day, airport, progress.minute // 60)
        except FusionError as error:
            if not error.is_transient:
                raise
        return self.snapshot

    async def look_at_members(self) -> None:
        """Ask the members, and count the traffic since the last time."""
        members = (await self._status()).members
        traffic = self._meter.take(sum(member.invalidations for member in members))
        self.snapshot = replace(self.snapshot, members=members, traffic=traffic)

    def show_outside(self, read: OutsideRead) -> None:
        """Keep what another process has read."""
        self.snapshot = replace(self.snapshot, outside=read)

    async def _read(self, day: date, airport: str, hour: int) -> None:
        read = self._meter.read
        board = [
            line
            for each in range(max(hour - 1, 0), hour + 3)
            for line in await read(self._airports.departures_at(airport, day, each))
        ]
        network = await read(self._network.totals(day))
        by_origin = await read(self._network.by_origin(day))
        by_carrier = await read(self._network.by_carrier(day))
        year = await read(self._history.year(day.year))
        names = self.snapshot.carrier_names or await self._names(list(by_carrier))
        self.snapshot = replace(
            self.snapshot,
            board=tuple(board),
            network=network,
            by_origin=by_origin,
            by_carrier=by_carrier,
            year=year,
            carrier_names=names,
        )

    async def _names(self, codes: list[str]) -> dict[str, str]:
        carriers = await gather(*(self._carriers.get(code) for code in codes))
        return {carrier.code: carrier.name for carrier in carriers if carrier is not None}
