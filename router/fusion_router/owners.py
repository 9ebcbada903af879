"""The owners of keys, as one member calls them: the links to them, the deadline, and the baggage of each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.link.peer import Peer
from fusion_cluster.runtime import Runtime
from fusion_cluster.runtime.baggage import current_baggage, of_a_read
from fusion_router.links import Links
from fusion_router.ownership import Ownership


class Owners:
    """Asks the owners of slots.

    Args:
        links: the links to the shards.
        ownership: tells the owners of slots.
        call_timeout_s: how long a call may take if its caller sets no limit.
        carried: gives the baggage of each call that leaves the process: the caller's present trace.
        runtime: gives the clock of deadlines, and the pauses between attempts.

    Attributes:
        runtime: as given.
        changed: waits for a newer slot map, at most for the given number of seconds.
    """

    def __init__(
        self,
        links: Links,
        ownership: Ownership,
        *,
        call_timeout_s: float,
        carried: Callable[[], Mapping[str, str]],
        runtime: Runtime,
    ) -> None:
        self._links = links
        self._ownership = ownership
        self._call_timeout_s = call_timeout_s
        self._carried = carried
        self.runtime = runtime
        self.changed: Callable[[float], Awaitable[None]] = links.changed
        self._clock = runtime.clock.monotonic

    def default_deadline_s(self) -> float:
        """Return the deadline of a call that begins now and whose caller sets no limit."""
        return self._clock() + self._call_timeout_s

    def with_carried(self, baggage: Mapping[str, str]) -> Mapping[str, str]:
        """Return the baggage of a call that leaves the process."""
        carried = self._carried()
        return {**baggage, **carried} if carried else baggage

    def baggage_of_a_read(self, principal: str | None) -> Mapping[str, str]:
        """Return the baggage of a read that leaves the process from this context.

        Args:
            principal: in JSON, of a read whose result depends on it; None: it does not, as far as is known.
        """
        baggage = self.with_carried(current_baggage.get())
        return baggage if principal is None and not baggage else of_a_read(baggage, principal)

    def link(self, slot: int) -> tuple[Peer, str]:
        """Return the link to the owner of a slot, and the owner's name.

        Raises:
            ShardUnavailable: it does not serve now.
        """
        shard_id = self._ownership.owner_of_slot(slot)
        peer = self._links.peer(shard_id)
        if peer is None:
            raise ShardUnavailable(f"shard {shard_id} does not serve")
        return peer, f"shard {shard_id}"
