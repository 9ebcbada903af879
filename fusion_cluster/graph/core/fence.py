"""The fence time: until when a graph may answer hits without asking anybody.

What a graph serves may rest on promises that hold for a time and have to be renewed: *leases*. A timer that ends a
lease comes too late in a process that was stopped, or starved, for longer than that: it would serve first and notice
later. So each hit compares the clock with one number, the *fence time*, and past it what has expired is settled before
the hit is answered.

Invariant: the fence time is never later than the `fence_s` of any lease. It need not follow a lease that is renewed:
when it has passed it is set anew, to the earliest there is then. A false alarm costs some microseconds, once per lease.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Protocol

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.core.hot_path import Registry
from fusion_cluster.graph.core.observers import Observers
from fusion_cluster.runtime.clock import SYSTEM_CLOCK

log = logging.getLogger(__name__)


class Lease(Protocol):
    """What some of a graph's nodes are served by, for a time, unless it is renewed.

    An implementation calls `Fence.lower` whenever `fence_s` has come down, before anything is served by it.
    """

    @property
    def fence_s(self) -> float:
        """Until when there is nothing to settle, on the graph's monotonic clock; infinite: nothing is served by it.

        May be asked from any thread.
        """
        ...

    def expire(self, now_s: float) -> None:
        """Invalidate what may be served no longer, so that `fence_s` is later than `now_s`.

        Called at any place where a computed is read, at most so often: in the midst of a computation, of an observer,
        of the lease's own work. Observers of what it invalidates are called after it.
        """
        ...


class Fence:
    """The fence time of one graph, and the leases that it is the earliest end of.

    Args:
        registry: what asks it, when a hit finds the fence time over.
        observers: they are held back while leases expire.
        is_in_own_thread: tells whether this thread is the graph's.
        on_unsettled: invalidates everything: a lease could not say what has expired.
        clock: that of the leases, in seconds, monotonic; hits compare it with the fence time, too.
    """

    __slots__ = ("_clock", "_fence_s", "_is_in_own_thread", "_leases", "_observers", "_on_unsettled", "_registry")

    def __init__(
        self,
        registry: Registry,
        observers: Observers,
        *,
        is_in_own_thread: Callable[[], bool],
        on_unsettled: Callable[[], object],
        clock: Callable[[], float] = SYSTEM_CLOCK.monotonic,
    ) -> None:
        self._registry = registry
        self._observers = observers
        self._is_in_own_thread = is_in_own_thread
        self._on_unsettled = on_unsettled
        self._clock = clock
        self._leases: tuple[Lease, ...] = ()
        self._fence_s = math.inf
        registry.clock = None if clock is SYSTEM_CLOCK.monotonic else clock
        registry.on_fence = self._settle

    @property
    def fence_s(self) -> float:
        """The fence time now; infinite where nothing has to be asked."""
        return self._fence_s

    def add(self, lease: Lease) -> None:
        """Live by one more lease."""
        self._leases = (*self._leases, lease)
        self.lower(lease.fence_s)

    def remove(self, lease: Lease) -> None:
        """Forget a lease by which nothing is served any more."""
        self._leases = tuple(other for other in self._leases if other is not lease)

    def lower(self, fence_s: float) -> None:
        """Hear that the `fence_s` of a lease has come down to this."""
        if fence_s < self._fence_s:
            self._set(fence_s)

    def check(self) -> None:
        """Settle what has expired, if the fence time has passed.

        Every way to a computed that claims to be up to date does so by itself. What is sent or kept as an answer later
        than it was read has to do it then.
        """
        self._registry.check_fence()

    def refuse(self, refusal: Callable[[], object]) -> None:
        """Let `refusal`, which raises, be called by each hit, and by each node that wants to enter, from now on."""
        self._registry.on_fence = refusal
        self._registry.fence_s = -math.inf

    # -- inside ------------------------------------------------------------------------------------------------------
    def _settle(self) -> None:
        """Let every lease settle what has expired; set the fence anew. Raises nothing, in the graph's own thread."""
        now_s = self._clock()
        if not self._is_in_own_thread():
            if self._earliest_s() > now_s:
                return  # a false alarm; it is for the graph's own thread to set the fence anew
            raise UsageError("this graph has to settle what has expired, and belongs to another thread")
        with self._observers.held():
            try:
                for lease in self._leases:
                    lease.expire(now_s)
                self._set(self._earliest_s())
            except Exception:
                log.exception("what has expired cannot be settled: everything is invalidated")
                self._on_unsettled()

    def _earliest_s(self) -> float:
        return min((lease.fence_s for lease in self._leases), default=math.inf)

    def _set(self, fence_s: float) -> None:
        self._fence_s = self._registry.fence_s = fence_s
