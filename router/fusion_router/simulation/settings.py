"""The settings of a simulated cluster and of its surroundings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorldSettings:
    """A simulated cluster. Times are short, because each simulated second costs real work.

    Attributes:
        shards: how many shards.
        drivers: how many members that own nothing.
        read_lease_s: how long replicas may be served without hearing from their owner.
        call_timeout_s: how long a read or command may take, retries included.
        max_nodes: bound on each member's graph.
        most_delay_s: how long a message is on its way, at most, unless the path is slow.
        detection_s: how long the coordinator may take to learn of a death.
        boot_s: how long a machine may take to start.
        successors_reset: a successor has the address of the machine that crashed, and resets its connections. False:
            it lives elsewhere, and nobody hears anything of the old one.
        skew_s: how far the clocks of two machines may be apart.
        drift: by which share a clock may run too fast or too slow; within the margin that leases allow for.
    """

    shards: int = 2
    drivers: int = 1
    read_lease_s: float = 0.3
    call_timeout_s: float = 4.0
    max_nodes: int = 10_000
    most_delay_s: float = 0.002
    detection_s: float = 0.1
    boot_s: float = 0.05
    successors_reset: bool = True
    skew_s: float = 1000.0
    drift: float = 0.005
