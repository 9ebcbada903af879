"""A member of the cluster: a graph whose misses are computed here or read from the shard that owns the key.

Shards, gateways and drivers are the same thing with different parts: a shard owns slots and serves links; a gateway
serves gRPC; a driver only reads. In each, a computed owned elsewhere is a *replica*: an ordinary node whose value came
over a link and which the owner's invalidation, or the loss of that link, invalidates.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from fusion_cluster.app import App
from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands import CommandResult, Invocation, run_command
from fusion_cluster.commands.retrying import until_answered
from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.graph import DEFAULT_HISTORY, Cause, Computed, Key
from fusion_cluster.graph.computing.varying import vary
from fusion_cluster.graph.computing.waiting import latest_deadline_s as latest_deadline
from fusion_cluster.graph.why.cause import MOVED
from fusion_cluster.host import Host
from fusion_cluster.link.peer import Peer
from fusion_cluster.link.replica_cause import replica_cause
from fusion_cluster.protocol.lease import as_read_lease
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_cluster.quantities import as_finite_timeout
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.runtime.baggage import current_baggage, of_a_read, with_principal
from fusion_cluster.runtime.deadline import NO_DEADLINE
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.results import decode_result
from fusion_router.barrier import Barriers
from fusion_router.cycles import CycleWatch
from fusion_router.invalidation import Invalidations
from fusion_router.links import Dial, Links
from fusion_router.ownership import Ownership
from fusion_router.publications import Publications

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ClusterHost(Host):
    """The app's services in one process of a cluster.

    Args:
        app: the app.
        dial: opens a carrier to a shard.
        peer_id: names this process to others; unique.
        secret: the cluster secret.
        shard_id: which shard this process is; None for gateways and drivers, which own nothing.
        epoch: this process's incarnation.
        read_lease_s: how long a subscriber may serve replicas without hearing from us.
        call_timeout_s: how long a read or command may take when its caller says nothing, retries included.
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
        self._call_timeout_s = call_timeout_s
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
        # Those who own nothing are part of no cycle: nobody who computes asks them.
        self.cycles = None if shard_id is None else CycleWatch(peer_id)
        if self.cycles is not None:
            self.links.on_opened = self.cycles.reopened
            self.graph.on_joined = self.cycles.joined
        # What this process serves by: the read leases of its replicas. A shard's lease on its slots belongs here, too.
        self.links.on_fence = self.graph.fence.lower
        self._clock = runtime.clock.monotonic
        self.graph.fence.add(self.links)
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
        """Take a newer slot map: drop links to shards that moved, and all that was computed under other ownership."""
        old, new = self.ownership.slot_map, slot_map
        if new.version <= old.version:
            return
        self.ownership.set_slot_map(new)
        if old.owners and old.owners != new.owners:
            self._invalidate_moved(old, new)
        self.links.set_slot_map(new)
        if self.dispatcher is not None:
            self.dispatcher.wake()

    def serves(self, method: Method, arguments: tuple[Any, ...]) -> bool:
        """Whether a call is answered here; gateways and drivers pass on whatever they are asked."""
        return self.shard_id is None or self.ownership.owns_slot(method.slot(arguments))

    def owned_slots(self) -> bytes | None:
        """A byte for each slot, 1 where it is owned here now."""
        return self.ownership.owned_slots()

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
        return self._read(node, slot)

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """A replica expires when its owner says so."""
        return self.ownership.owns_slot(node.function.method.slot(node.arguments))

    async def _read(self, node: Computed[Any], slot: int) -> Any:
        method = node.function.method
        arguments = method.arguments.encode(node.arguments)
        cycles = self.cycles
        unlimited_s = self._clock() + self._call_timeout_s
        latest_deadline_s = partial(latest_deadline, node, unlimited_s)

        async def attempt(invocation: Invocation) -> Any:
            peer, owner = self._owner(slot)
            call = peer.read(
                invocation,
                arguments,
                on_invalidated=lambda _id: self.graph.invalidate_now(node, replica_cause(call, owner)),
                latest_deadline_s=latest_deadline_s,
            )
            if cycles is not None:
                cycles.began(node, peer, call)
            try:
                result = await call
            finally:
                if cycles is not None:
                    cycles.ended(node)
            node.on_invalidated(lambda _node: peer.unsubscribe(call.id))
            if result.varies:
                vary(node)
            node.version = result.version
            if result.WhichOneof("outcome") == "error":
                raise decode_error(result.error)
            return decode_result(method.name, method.result, result.value)

        invocation = Invocation(
            *(method.name, node.arguments),
            deadline_s=latest_deadline_s(),
            baggage=of_a_read(self._carried(current_baggage.get()), node.function.principal),
        )
        return await until_answered(
            invocation,
            attempt,
            runtime=self.runtime,
            pause=self.links.changed,
            latest_deadline_s=latest_deadline_s,
        )

    # -- commands ----------------------------------------------------------------------
    async def carry_out(self, invocation: Invocation) -> CommandResult:
        """Run a command here if its key is ours, else on its owner.

        One whose owner is lost while it runs is asked for again under the same id, of that one's successor, until the
        time is up.

        Raises:
            CommandOutcomeUnknown: the owner was lost while it ran; it may or may not have been committed.
            ShardUnavailable: the owner could not be reached; it was not run.
            DeadlineExceeded: its time was up before its commit had begun; nothing is committed.
        """
        command = self.command(invocation.method)
        method = command.method
        method.require_shard_key(invocation.arguments)
        slot = method.slot(invocation.arguments)
        if self.ownership.owns_slot(slot):
            return await run_command(command, invocation, host=self)
        encoded = method.arguments.encode(invocation.arguments)

        async def attempt(invocation: Invocation) -> CommandResult:
            result = await self._owner(slot)[0].execute(invocation, encoded)
            if result.WhichOneof("outcome") == "error":
                raise decode_error(result.error)
            return CommandResult(decode_result(method.name, method.result, result.value), is_replayed=result.replayed)

        unlimited_s = self._clock() + self._call_timeout_s
        sent = invocation.replace(
            command_id=invocation.command_id or self.runtime.entropy.new_id(),
            deadline_s=unlimited_s if invocation.deadline_s == NO_DEADLINE else invocation.deadline_s,
            baggage=with_principal(self._carried(invocation.baggage)),
        )
        return await until_answered(sent, attempt, runtime=self.runtime, pause=self.links.changed)

    def _carried(self, baggage: Mapping[str, str]) -> Mapping[str, str]:
        """Return the baggage of a call that leaves the process: it goes on in the trace that the caller is in now."""
        carried = self.app.carried()
        return {**baggage, **carried} if carried else baggage

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

    # -- owners ----------------------------------------------------------------------
    def _owner(self, slot: int) -> tuple[Peer, str]:
        """The link to the owner of a slot, and what to call that one.

        Raises:
            ShardUnavailable: it does not serve now.
        """
        shard_id = self.ownership.owner_of_slot(slot)
        peer = self.links.peer(shard_id)
        if peer is None:
            raise ShardUnavailable(f"shard {shard_id} does not serve")
        return peer, f"shard {shard_id}"

    async def leave(self) -> None:
        """Give up what is still to be told to owners, and close the links; who waits for either gets an error."""
        if self.cycles is not None:
            self.cycles.close()
        self.barriers.close()
        self.publications.leave()
        await self.links.close()
        await self.publications.close()

    async def close(self) -> None:
        """Leave the cluster, in the order of `member.STOP_ORDER`; a copy, in a forked process, stops nothing."""
        if not self.graph.is_forked:
            await self.stop_delivering()
            await self.leave()
            await self.stop_following()
            await self.close_graph()
