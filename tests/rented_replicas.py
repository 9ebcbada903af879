"""A lease and its clock for tests of the fence: computeds that may be served until a time, and no longer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from fusion_cluster.graph import Computed, Fence, Graph
from fusion_cluster.graph.why.cause import UNSETTLED

START_S = 1e6


class Clock:
    """Stands still until it is told to go on. Reads compare it with the fence time, and leases go by it."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


class RentedReplicas:
    """Invalidates, when its time is over, what was served by it.

    Attributes:
        until_s: when it runs out.
        asked_at_s: when the fence asked it to settle.
    """

    def __init__(self, clock: Clock, until_s: float) -> None:
        self.until_s = until_s
        self.asked_at_s: list[float] = []
        self._clock = clock
        self._replicas: list[Computed[Any]] = []

    def add(self, replica: Computed[Any], graph: Graph) -> None:
        self._replicas.append(replica)
        graph.fence.lower(self.fence_s)

    @property
    def fence_s(self) -> float:
        return self.until_s if self._replicas else math.inf

    def expire(self, now_s: float) -> None:
        self.asked_at_s.append(now_s)
        if now_s > self.until_s:
            replicas, self._replicas = self._replicas, []
            for replica in replicas:
                replica.invalidate()


def rent(graph: Graph, *replicas: Computed[Any], for_s: float = 3.0) -> tuple[Clock, RentedReplicas]:
    """Let computeds of a graph be served for so long, by a clock that stands still."""
    clock = Clock()
    lease = RentedReplicas(clock, clock.now_s + for_s)
    graph.fence = Fence(
        graph.registry,
        graph.observers,
        is_in_own_thread=graph.is_in_own_thread,
        on_unsettled=partial(graph.invalidate_all, UNSETTLED),
        clock=clock,
    )
    graph.fence.add(lease)
    for replica in replicas:
        lease.add(replica, graph)
    return clock, lease
