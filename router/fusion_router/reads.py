"""Reads of keys that other shards own: their results become replicas here.

Invariant: a replica is subscribed at its owner for as long as it is consistent. The owner's invalidation, or the loss
of the link, invalidates it; a replica that is invalidated here gives the subscription up.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fusion_cluster.commands import Invocation
from fusion_cluster.commands.retrying import until_answered
from fusion_cluster.graph import Computed, Graph
from fusion_cluster.graph.computing.varying import vary
from fusion_cluster.graph.computing.waiting import latest_deadline_s as latest_deadline
from fusion_cluster.link.replica_cause import replica_cause
from fusion_cluster.runtime.baggage import current_baggage, of_a_read
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
        arguments = method.arguments.encode(node.arguments)
        cycles = self._cycles
        latest_deadline_s = partial(latest_deadline, node, self._owners.default_deadline_s())

        async def attempt(invocation: Invocation) -> Any:
            peer, owner = self._owners.link(slot)
            call = peer.read(
                invocation,
                arguments,
                on_invalidated=lambda _id: self._graph.invalidate_now(node, replica_cause(call, owner)),
                latest_deadline_s=latest_deadline_s,
            )
            if cycles is not None:
                cycles.began(node, call)
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
            baggage=of_a_read(self._owners.with_carried(current_baggage.get()), node.function.principal),
        )
        return await until_answered(
            invocation,
            attempt,
            runtime=self._owners.runtime,
            pause=self._owners.changed,
            latest_deadline_s=latest_deadline_s,
        )
