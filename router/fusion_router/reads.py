"""Reads of keys that other shards own: their results become replicas here.

Invariant: a replica is subscribed at its owner for as long as it is consistent. The owner's invalidation, or the loss
of the session, invalidates it; while its link is down, a reader does, who then waits for the link. A replica that is
invalidated here gives the subscription up.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fusion_cluster.commands import Invocation
from fusion_cluster.commands.retrying import REASONS_TO_ASK_AGAIN, Retries
from fusion_cluster.graph import Computed, Graph
from fusion_cluster.graph.computing.varying import vary
from fusion_cluster.graph.computing.waiting import latest_deadline_s as latest_deadline
from fusion_cluster.link.peer import Peer
from fusion_cluster.link.peer_call import PeerCall
from fusion_cluster.link.replica_cause import replica_cause
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.results import decode_result
from fusion_router.cycles import CycleWatch
from fusion_router.owners import Owners


class RemoteReads:
    """Reads from owners for one member.

    Args:
        owners: asks them.
        graph: the graph that has the replicas.
        cycles: finds cycles that pass through this member; None: no cycle can.
    """

    def __init__(self, owners: Owners, graph: Graph, cycles: CycleWatch | None) -> None:
        self._owners = owners
        self._graph = graph
        self._cycles = cycles

    async def read(self, node: Computed[Any], slot: int) -> Any:
        """Return the value of a node from the owner of its slot, and follow the owner's invalidations.

        Raises:
            ShardUnavailable, DeadlineExceeded: the owner could not be reached, or has not answered in time.
            Exception: the error that the method raised.
        """
        method = node.function.method
        owners = self._owners
        latest_deadline_s = partial(latest_deadline, node, owners.default_deadline_s())
        invocation = Invocation(
            *(method.name, node.arguments),
            deadline_s=latest_deadline_s(),
            baggage=owners.baggage_of_a_read(node.function.principal),
        )
        arguments = method.arguments.encode(node.arguments)
        cycles = self._cycles
        retries: Retries | None = None
        while True:
            try:
                peer, owner = owners.link(slot)
                call = peer.read(invocation, arguments, latest_deadline_s=latest_deadline_s)
                call.subject = node
                call.on_invalidated = partial(self._on_invalidated, node, call, owner)
                if cycles is not None:
                    cycles.began(node, call)
                try:
                    result = await call
                finally:
                    if cycles is not None:
                        cycles.ended(node)
                node.on_invalidated(partial(_unsubscribe, peer, call.id))
                if result.varies:
                    vary(node)
                node.version = result.version
                if result.HasField("error"):
                    raise decode_error(result.error)
                return decode_result(method.name, method.result, result.value)
            except REASONS_TO_ASK_AGAIN as error:
                retries = retries or Retries(owners.runtime, pause=owners.changed, latest_deadline_s=latest_deadline_s)
                invocation = await retries.after(error, invocation)

    def _on_invalidated(self, node: Computed[Any], call: PeerCall, owner: str, _call_id: int) -> None:
        self._graph.invalidate_now(node, replica_cause(call, owner))


def _unsubscribe(peer: Peer, call_id: int, _node: Computed[Any]) -> None:
    peer.unsubscribe(call_id)
