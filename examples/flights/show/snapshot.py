"""One moment of the demo: all that a view needs, and nothing that moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from examples.flights.values import Departure, Totals
from fusion_shards.configuration import MemberStatus


@dataclass(frozen=True)
class Traffic:
    """What went through the cluster of late.

    Attributes:
        reads_per_s: reads by this process.
        hit_rate: share of them answered by its replicas, without the network.
        miss_p50_ms: half of the reads through the gateway took at most this.
        miss_p99_ms: 99 of 100 did.
        commands_per_s: departures, arrivals and the like.
        command_p50_ms: half of the commands took at most this; each waits until no reader can see old data.
        invalidations_per_s: computeds that went out of date, in all shards and gateways.
    """

    reads_per_s: float = 0.0
    hit_rate: float = 0.0
    miss_p50_ms: float = 0.0
    miss_p99_ms: float = 0.0
    commands_per_s: float = 0.0
    command_p50_ms: float = 0.0
    invalidations_per_s: float = 0.0


@dataclass(frozen=True)
class OutsideRead:
    """A read made by another process: its command line and what it printed."""

    command: str
    answer: str


@dataclass(frozen=True)
class Snapshot:
    """One moment.

    Attributes:
        day: the day that is replayed.
        minute: the time of day in New York, in minutes since midnight.
        address: the gateway.
        confirmed: commands that returned.
        total: commands of the day.
        retries: tries beyond the first.
        airport: whose departures board is shown.
        board: that board, the hours around `minute`.
        network: the day's sums.
        by_origin: the sums by the airport that flights leave.
        by_carrier: the sums by carrier.
        year: the sums of the whole year, that day included.
        traffic: what went through the cluster of late.
        members: shards and gateways.
        outside: what another process has read.
        carrier_names: the carriers' names by their codes.
    """

    day: date
    minute: int
    address: str
    confirmed: int
    total: int
    retries: int
    airport: str
    board: tuple[Departure, ...] = ()
    network: Totals = field(default_factory=Totals)
    by_origin: Mapping[str, Totals] = field(default_factory=dict)
    by_carrier: Mapping[str, Totals] = field(default_factory=dict)
    year: Totals = field(default_factory=Totals)
    traffic: Traffic = field(default_factory=Traffic)
    members: tuple[MemberStatus, ...] = ()
    outside: OutsideRead | None = None
    carrier_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether the whole day is replayed."""
        return self.confirmed == self.total


def example_command(snapshot: Snapshot) -> str:
    """What to type in another terminal to read, now, the board that is shown."""
    arguments = f"{snapshot.airport} {snapshot.day} {snapshot.minute // 60 % 24}"
    return f"fusion-cluster call Airports.departures_at {arguments} --address {snapshot.address}"
