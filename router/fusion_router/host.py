"""The host of a member: a graph whose misses are computed here or read from the shard that owns the key.

Shards, gateways and drivers have the same host with different parts: a shard owns slots and serves links; a gateway
serves gRPC; a driver only makes calls. In each, a computed owned elsewhere is a *replica*: an ordinary node whose value
came over a link and which the owner's invalidation, or the loss of that link, invalidates.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

from fusion_cluster.app import App
from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands import BoundCommand, CommandResult, Invocation, run_command
from fusion_cluster.graph import DEFAULT_HISTORY, Cause, Computed, Key
from fusion_cluster.graph.why.cause import MOVED
from fusion_cluster.host import Host
from fusion_cluster.link.peer import Peer
from fusion_cluster.protocol.lease import as_read_lease
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_cluster.quantities import as_finite_timeout
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_router.barrier import Barriers
from fusion_router.commands import RemoteCommands
from fusion_router.cycles import CycleWatch
from fusion_router.invalidation import Invalidations
from fusion_router.links import Dial, Links
from fusion_router.owners import Owners
from fusion_router.ownership import Ownership
from fusion_router.publications import Publications
from fusion_router.reads import RemoteReads

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ClusterHost(Host):
    """The app's services in one process of a cluster.

    Args:
        app: the app.
        dial: opens a carrier to a shard.
        peer_id: the unique name of this process to others.
        secret: the cluster secret.
        shard_id: the number of this shard; None for gateways and drivers, which own nothing.
        epoch: this process's incarnation.
        read_lease_s: how long a subscriber may serve replicas without hearing from us.
        call_timeout_s: how long a read or command may take if its caller sets no limit, retries included.
        max_nodes: hard bound on the number of nodes in the graph.
        max_bytes: hard bound on the bytes that nodes and values take, by estimate.
        history: how many of the graph's last events are kept, for `why` and `story`.
        strict: see `Host`.
        runtime: see `Host`.
    """

    def __init__(
        self,
        app: App,
        *,
        dial: Dial,
        peer_id: str,
        secret: bytes | None,
        shard_id: int | None = None,
        epoch: int = 0,
        read_lease_s: float = 3.0,
        call_timeout_s: float = 10.0,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        history: int = DEFAULT_HISTORY,
        strict: bool = False,
        runtime: Runtime = SYSTEM,
    ) -> None:
        call_timeout_s = as_finite_timeout("call_timeout_s", call_timeout_s)
        read_lease_s = as_read_lease(read_lease_s)
        super().__init__(
            app,
            peer_id=peer_id,
            max_nodes=max_nodes,
            max_bytes=max_bytes,
            history=history,
            strict=strict,
            runtime=runtime,
        )
        self.shard_id = shard_id
        self.epoch = epoch
        self.ownership = Ownership(app.methods, shard_id)
        self.barriers = Barriers(
            read_lease_s=read_lease_s, succeeds=shard_id is not None and epoch > 1, runtime=runtime
        )
        self.links = Links(dial, peer_id=peer_id, secret=secret, on_barrier=self._on_barrier, runtime=runtime)
        self.invalidations = Invalidations(self.function, self.ownership, self.applied)
        self.publications = Publications(
            self.links,
            self.barriers,
            self.invalidations,
            self.ownership,
            peer_id=peer_id,
            timeout_s=call_timeout_s,
            runtime=runtime,
        )
        # A member that owns nothing is not part of a cycle: no computation asks it.
        self.cycles = None if shard_id is None else CycleWatch(peer_id)
        if self.cycles is not None:
            self.links.on_opened = self.cycles.reopened
            self.graph.on_joined = self.cycles.joined
        owners = Owners(self.links, self.ownership, call_timeout_s=call_timeout_s, carried=app.carried, runtime=runtime)
        self._reads = RemoteReads(owners, self.graph, self.cycles)
        self._remote_commands = RemoteCommands(owners, runtime)
        # The leases on which this process serves: the read leases of its replicas. A shard's lease on its slots belongs
        # here.
        self.links.on_fence = self.graph.fence.lower
        self.graph.fence.add(self.links)
        self.links.on_doubt = self._on_doubt
        self._bind_services(runs_bodies=shard_id is not None)

    # -- slots ----------------------------------------------------------------------
    @property
    def slot_map(self) -> SlotMap:
        """The newest slot map known here."""
        return self.ownership.slot_map

    @property
    def slot_map_version(self) -> int:
        """The version of the slot map known here."""
        return self.ownership.slot_map.version

    def set_slot_map(self, slot_map: SlotMap) -> None:
        """Take a newer slot map: drop links to shards that moved, and everything computed under other ownership."""
        old, new = self.ownership.slot_map, slot_map
        if new.version <= old.version:
            return
        self.ownership.set_slot_map(new)
        if old.owners and old.owners != new.owners:
            self._invalidate_moved(old, new)
        self.links.set_slot_map(new)
        if self.dispatcher is not None:
            self.dispatcher.wake()

    def serves(self, slot: int) -> bool:
        """Whether calls of a slot are answered here; gateways and drivers pass on every call."""
        return self.shard_id is None or self.ownership.owns_slot(slot)

    def owned_slots(self) -> bytes | None:
        """Return a byte for each slot, 1 if it is owned here now."""
        return self.ownership.owned_slots()

    @property
    def shard_number(self) -> int:
        """The number of this shard; -2 for gateways and drivers, which own nothing."""
        return -2 if self.shard_id is None else self.shard_id

    def owner_of(self, key: Key) -> int:
        """Return the number of the shard that owns a key; -1 while no slot map is known."""
        return self.ownership.owner_of(key)

    def owns(self, key: Key) -> bool:
        """Whether the key's value is computed here."""
        return self.ownership.owns(key)

    def _invalidate_moved(self, old: SlotMap, new: SlotMap) -> None:
        for function in self.graph.functions.values():
            slot_of = function.method.slot
            for node in function.all_nodes():
                slot = slot_of(node.arguments)
                if old.owners[slot] != new.owners[slot]:
                    self.graph.invalidate_now(node, MOVED)

    # -- reads ----------------------------------------------------------------------
    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """Run the body if the key is ours, else read it from its owner."""
        method: Method = node.function.method
        method.require_shard_key(node.arguments)
        slot = method.slot(node.arguments)
        if self.ownership.owns_slot(slot):
            return node.function.compute(node.arguments)
        return self._reads.read(node, slot)

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Return whether the timers of a node run here: a replica expires when its owner says so."""
        return self.ownership.owns_slot(node.function.method.slot(node.arguments))

    # -- commands ----------------------------------------------------------------------
    def carry_out(self, invocation: Invocation) -> Coroutine[Any, Any, CommandResult]:
        """Run a command here if its key is ours, else on its owner.

        If the owner is lost while it runs, the successor is asked again under the same id, until the time is up.

        Raises:
            CommandOutcomeUnknown: the owner was lost while the command ran; it may or may not have been committed.
            ShardUnavailable: the owner could not be reached; the command did not run.
            DeadlineExceeded: its time was up before its commit had begun; nothing is committed.
        """
        command = self.command(invocation.method)
        return self.run(command, invocation, command.method.slot(invocation.arguments))

    def run(
        self, command: BoundCommand[..., Any], invocation: Invocation, slot: int
    ) -> Coroutine[Any, Any, CommandResult]:
        """Do what `carry_out` does, for code that knows the command and its slot."""
        command.method.require_shard_key(invocation.arguments)
        if self.ownership.owns_slot(slot):
            return run_command(command, invocation, host=self)
        return self._remote_commands.execute(command.method, invocation, slot)

    # -- invalidations ----------------------------------------------------------------------
    def publish(self, keys: Mapping[Key, Cause], barrier: bool, operation_id: str = "") -> Awaitable[None]:
        """Invalidate keys here at once and at their owners; see `Host.publish`.

        Raises:
            ShardUnavailable: (when awaited) an owner has not confirmed in time; it is still being tried.
            FusionError: (when awaited) an owner has refused.
        """
        return self.publications.publish(keys, barrier, operation_id)

    def _on_barrier(self, peer: Peer, barrier: int) -> None:
        self.barriers.reached(barrier, lambda confirms: peer.settle(barrier, confirms=confirms))

    def _on_doubt(self, peer: Peer) -> None:
        if peer.is_in_doubt:
            self.graph.doubt.begin(peer, {call.subject: call.give_up_doubted for call in peer.answered})
        else:
            self.graph.doubt.end(peer)

    # -- the end ----------------------------------------------------------------------
    async def leave(self) -> None:
        """Give up unsent invalidations, and close the links; callers that wait for either get an error."""
        if self.cycles is not None:
            self.cycles.close()
        self.barriers.close()
        self.publications.leave()
        await self.links.close()
        await self.publications.close()
