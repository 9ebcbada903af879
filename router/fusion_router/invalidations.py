"""What one member does with invalidations: it applies those of its own keys, and says who has to be told of the others.

Invariant: whoever is told of a key and does not own it says so. It may be that nobody but the slot map's next owner has
anything to invalidate, and a command must not return before that one has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fusion_cluster.database.applied_operations import Reference
from fusion_cluster.graph import Cause, Key
from fusion_cluster.link.replica_cause import sent_origin, told_by
from fusion_cluster.v1 import session_pb2
from fusion_router.pending_invalidations import Told

if TYPE_CHECKING:
    from fusion_router.host import ClusterHost


class Invalidations:
    """Applies invalidations to one host, and finds the owners of keys (`publications.Owners`).

    Args:
        host: whose graph and slot map it is.
    """

    def __init__(self, host: ClusterHost) -> None:
        self._host = host

    @property
    def slot_map_version(self) -> int:
        """The version of the slot map known here."""
        return self._host.slot_map_version

    def owner_of(self, reference: Reference) -> int:
        """The shard that owns a key, by the newest slot map known here."""
        name, encoded = reference
        route = self._host.routes[name]
        return self._host.owner_of_slot(route.slot(route.arguments.decode_msgpack(encoded)))

    def publish(self, keys: Mapping[Key, Cause], operation_id: str) -> dict[int, dict[Reference, str]]:
        """Invalidate here; returns what the other owners have to be told, by shard."""
        host = self._host
        is_new = operation_id not in host.applied
        remote: defaultdict[int, dict[Reference, str]] = defaultdict(dict)
        origins: dict[Cause, str] = {}
        for key, cause in keys.items():
            name = f"{key.service}.{key.method}"
            if is_new:
                host.function(name).invalidate(key.arguments, cause)
            route = host.routes[name]
            owner = host.owner_of_slot(route.slot(key.arguments))
            if owner != host.shard_id:
                origin = origins.get(cause) or origins.setdefault(cause, sent_origin(cause))
                remote[owner][name, route.arguments.encode(key.arguments)] = origin
        host.applied.add(operation_id)
        return remote

    def publish_again(self, told: Told) -> dict[int, dict[Reference, str]]:
        """Do the same with what other owners were to be told, by the newest slot map: some may be ours by now."""
        host = self._host
        remote: defaultdict[int, dict[Reference, str]] = defaultdict(dict)
        for (name, encoded), origin in told.items():
            owner = self.owner_of((name, encoded))
            if owner == host.shard_id:
                arguments = host.key_codec(name).decode_msgpack(encoded)
                host.function(name).invalidate(arguments, told_by(host.peer_id, origin))
            else:
                remote[owner][name, encoded] = origin
        return remote

    def apply_request(self, request: session_pb2.Invalidate, peer_id: str) -> bool:
        """Invalidate keys that another process, `peer_id`, says have changed.

        Returns:
            Whether all of them are owned here. What is not is invalidated as far as it is known here, and its owner has
            still to be told.
        """
        host = self._host
        origins = ("", *request.origins)
        causes = {origin: told_by(peer_id, origin) for origin in origins}
        told = [
            (reference.method, reference.arguments, origins[reference.origin if reference.origin < len(origins) else 0])
            for reference in request.keys
        ]
        for method, encoded, origin in host.applied.missing(request.operation_id, told):
            arguments = host.key_codec(method).decode_msgpack(encoded)
            host.function(method).invalidate(arguments, causes[origin])
        host.applied.add_some(request.operation_id, [(method, encoded) for method, encoded, _ in told])
        return all(self.owner_of((method, encoded)) == host.shard_id for method, encoded, _ in told)
