"""Hosts that follow the operation log, in tests."""

from __future__ import annotations

from fusion_cluster import LogOptions
from fusion_cluster.database.log_follower import LogFollower
from fusion_cluster.host import Host
from tests.waiting import until

OFTEN = LogOptions(period_s=0.05)
SELDOM = LogOptions(period_s=60.0)


def follower_of(host: Host) -> LogFollower:
    assert host.log is not None
    assert host.log.follower is not None
    return host.log.follower


async def has_read(host: Host, entries: int) -> None:
    """Wait until a host has read so many entries, and has done what it had to do for them."""
    await until(lambda: follower_of(host).entry_count >= entries, what=f"reading {entries} entries")
