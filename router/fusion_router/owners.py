"""The owners of keys, as one member asks them: how to reach them, until when, and what goes with each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.link.peer import Peer
from fusion_cluster.runtime import Runtime
from fusion_router.links import Links
from fusion_router.ownership import Ownership


class Owners:
    """Asks the owners of slots.

    Args:
        links: to the shards.
        ownership: who owns which slot.
        call_timeout_s: how long a call may take when its caller says nothing.
        carried: gives what goes with each call that leaves the process: the trace that the caller is in now.
        runtime: the clock of deadlines, and the pauses between attempts.

    Attributes:
        runtime: as given.
        changed: waits for a newer slot map, at most for so many seconds.
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
        """Return when a call that begins now, and whose caller says nothing, must have ended."""
        return self._clock() + self._call_timeout_s

    def with_carried(self, baggage: Mapping[str, str]) -> Mapping[str, str]:
        """Return the baggage of a call that leaves the process."""
        carried = self._carried()
        return {**baggage, **carried} if carried else baggage

    def link(self, slot: int) -> tuple[Peer, str]:
        """Return the link to the owner of a slot, and what to call that one.

        Raises:
            ShardUnavailable: it does not serve now.
        """
        shard_id = self._ownership.owner_of_slot(slot)
        peer = self._links.peer(shard_id)
        if peer is None:
            raise ShardUnavailable(f"shard {shard_id} does not serve")
        return peer, f"shard {shard_id}"
