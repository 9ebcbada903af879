"""The same without a terminal: one plain line for a snapshot."""

from __future__ import annotations

from examples.flights.clock import show_minute
from examples.flights.show.snapshot import Snapshot
from examples.flights.values import Totals


def line_of(snapshot: Snapshot) -> str:
    """What is worth saying of a moment, in one line."""
    traffic = snapshot.traffic
    airports = "  ".join(f"{code} {delay_of(totals)}" for code, totals in sorted(snapshot.by_origin.items()))
    retries = f", {snapshot.retries} tried again" if snapshot.retries else ""
    up = sum(member.is_up for member in snapshot.members if member.role == "shard")
    return (
        f"{show_minute(snapshot.minute)}  {snapshot.confirmed:,}/{snapshot.total:,} commands{retries}  "
        f"departed {snapshot.network.departed}, arrived {snapshot.network.arrived}, "
        f"cancelled {snapshot.network.cancelled}  mean delay {airports}  "
        f"{traffic.reads_per_s:,.0f} reads/s, {traffic.hit_rate:.0%} hits, miss {traffic.miss_p50_ms:.1f} ms, "
        f"{traffic.invalidations_per_s:,.0f} invalidations/s, {up} shards"
    )


def delay_of(totals: Totals) -> str:
    """The mean delay of those that left."""
    mean = totals.mean_departure_delay_min
    return "-" if mean is None else f"{round(mean)} min"
