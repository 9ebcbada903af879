"""The links of one process: one for each shard that it calls, opened when first needed, by the slot map.

Together they are the `graph.Lease` of the process's replicas, which may be served while their owners are heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.peer import Peer
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_cluster.runtime import SYSTEM, Runtime

Dial = Callable[[ShardAddress], Awaitable[Carrier]]

_INFINITY: Final = float("inf")


class Links:
    """A peer for each shard that serves.

    Args:
        dial: opens a carrier to a shard.
        peer_id: the name of this process to the shards.
        secret: the cluster secret.
        on_barrier: called with the peer and the number when a freshness barrier arrives.
        runtime: the runtime of the links.

    Attributes:
        on_fence: called with the new time when something may expire earlier than was known.
        on_opened: called with a peer whenever its session is open over a new carrier.
        on_doubt: called with a peer whenever its replicas begin, or cease, to be in doubt.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        peer_id: str,
        secret: bytes | None,
        on_barrier: Callable[[Peer, int], None],
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._dial = dial
        self._runtime = runtime
        self._tasks = runtime.scope(f"the links of {peer_id}")
        self._peer_id = peer_id
        self._secret = secret
        self._on_barrier = on_barrier
        self.on_fence: Callable[[float], None] | None = None
        self.on_opened: Callable[[Peer], None] | None = None
        self.on_doubt: Callable[[Peer], None] | None = None
        # Shard id -> its address; the peers are links to exactly these incarnations.
        self._addresses: dict[int, ShardAddress] = {}
        self._peers: dict[int, Peer] = {}
        # Links being closed; replicas read through them may be served until they are closed.
        self._closing: dict[Peer, asyncio.Task[None]] = {}
        self._changed: asyncio.Future[None] | None = None
        self._is_closed = False

    def set_slot_map(self, slot_map: SlotMap) -> None:
        """Close links to incarnations that are gone, so that the calls waiting on them are tried again."""
        for shard_id, address in list(self._addresses.items()):
            if slot_map.shards.get(shard_id) != address:
                self._drop(shard_id, leave=False)
        self._addresses = dict(slot_map.shards)
        self._wake()

    @property
    def is_closed(self) -> bool:
        """Whether the links are closed for good."""
        return self._is_closed

    def peer(self, shard_id: int) -> Peer | None:
        """The link to a shard; None while it does not serve."""
        peer = self._peers.get(shard_id)
        if peer is None and not self._is_closed:
            address = self._addresses.get(shard_id)
            if address is None:
                return None
            peer = self._peers[shard_id] = Peer(
                partial(self._dial, address),
                peer_id=self._peer_id,
                secret=self._secret,
                on_barrier=self._on_barrier,
                runtime=self._runtime,
            )
            peer.on_fence = self.on_fence
            peer.on_opened = self.on_opened
            peer.on_doubt = self.on_doubt
        return peer

    @property
    def fence_s(self) -> float:
        """When `expire` has something to do; infinite while there are no replicas."""
        return min((peer.fence_s for peer in (*self._peers.values(), *self._closing)), default=_INFINITY)

    def expire(self, now_s: float) -> None:
        """Invalidate the replicas whose owners have not been heard for too long."""
        for peer in (*self._peers.values(), *self._closing):
            peer.expire(now_s)

    async def changed(self, timeout_s: float) -> None:
        """Wait for a newer slot map or the end, at most for `timeout_s` seconds.

        Raises:
            ShardUnavailable: there are no links any more.
        """
        if self._is_closed:
            raise ShardUnavailable("this member has left the cluster")
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._changed], timeout=timeout_s)

    async def close(self) -> None:
        """Close all links."""
        self._is_closed = True
        self._wake()
        for shard_id in list(self._peers):
            self._drop(shard_id, leave=True)
        if self._closing:
            await asyncio.wait(self._closing.values())

    def _wake(self) -> None:
        if self._changed is not None:
            changed, self._changed = self._changed, None
            changed.set_result(None)

    def _drop(self, shard_id: int, *, leave: bool) -> None:
        peer = self._peers.pop(shard_id, None)
        if peer is not None:
            task = self._closing[peer] = self._tasks.spawn(peer.close(leave=leave), name="close a link")
            task.add_done_callback(lambda _: self._closing.pop(peer))
