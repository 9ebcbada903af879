"""Invalidations in one member: plans which owners have to be notified, and applies invalidations to the local graph.

Invariant: a member that gets an invalidation of a key and does not own it reports that. Perhaps only the next owner of
the key has anything to invalidate, and a command must not return before that owner has done it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fusion_cluster.database.applied_operations import AppliedOperations, Reference
from fusion_cluster.errors import FusionError
from fusion_cluster.graph import Cause, ComputeFunction, Key
from fusion_cluster.link.replica_cause import sent_origin, told_by
from fusion_cluster.v1 import session_pb2
from fusion_router.ownership import Ownership

Keys = Mapping[Key, Cause]
"""Keys to invalidate, each with its cause."""


class Sent(NamedTuple):
    """The data that goes with a key to its owner.

    Attributes:
        slot: the slot of the key.
        origin: the cause of its invalidation, as text for people; "": none.
    """

    slot: int
    origin: str = ""


Told = Mapping[Reference, Sent]
"""Keys to invalidate at other members. They are encoded when they are planned: their arguments may be changed later."""


@dataclass(frozen=True, slots=True)
class InvalidationPlan:
    """The places where keys have to be invalidated: each key in exactly one.

    Attributes:
        local: the keys that this member owns.
        remote: the other keys, by the shard that owns them; -1: no slot map is known yet.
    """

    local: dict[Key, Cause] = field(default_factory=dict)
    remote: dict[int, dict[Reference, Sent]] = field(default_factory=dict)


def plan_invalidation(keys: Keys, ownership: Ownership) -> InvalidationPlan:
    """Plan which members have to invalidate keys, by the present slot map. Changes nothing.

    Args:
        keys: the keys, with their causes.
        ownership: tells the owners of keys.

    Raises:
        InvalidArgument: an argument of a key of another member cannot leave the process.
    """
    plan = InvalidationPlan()
    origins: dict[Cause, str] = {}
    for key, cause in keys.items():
        method = ownership.methods[f"{key.service}.{key.method}"]
        slot = method.slot(key.arguments)
        owner = ownership.owner_of_slot(slot)
        if owner == ownership.shard_id:
            plan.local[key] = cause
        else:
            origin = origins.get(cause) or origins.setdefault(cause, sent_origin(cause))
            reference = method.name, method.arguments.encode(key.arguments)
            plan.remote.setdefault(owner, {})[reference] = Sent(slot, origin)
    return plan


def plan_again(told: Told, ownership: Ownership, *, teller: str) -> InvalidationPlan:
    """Plan again for keys that were meant for some owner: they may have other owners now, perhaps this member.

    Args:
        told: the keys.
        ownership: tells the owners of keys.
        teller: the name of this member, for the causes.
    """
    plan = InvalidationPlan()
    for reference, sent in told.items():
        owner = ownership.owner_of_slot(sent.slot)
        if owner == ownership.shard_id:
            plan.local[ownership.key_of(reference)] = told_by(teller, sent.origin)
        else:
            plan.remote.setdefault(owner, {})[reference] = sent
    return plan


class Invalidations:
    """Applies invalidations to the graph of one member.

    Args:
        function: gives a compute method by its full name.
        ownership: tells the owners of keys.
        applied: the logged operations whose invalidations are applied here.
    """

    def __init__(
        self, function: Callable[[str], ComputeFunction], ownership: Ownership, applied: AppliedOperations
    ) -> None:
        self._function = function
        self._ownership = ownership
        self._applied = applied

    def apply(self, keys: Keys, operation_id: str = "") -> None:
        """Invalidate the computeds of keys in this member: its own and replicas.

        Args:
            keys: the keys, with their causes: all keys of an operation.
            operation_id: the logged operation that they belong to, which is applied once; "": none.
        """
        if operation_id not in self._applied:
            for key, cause in keys.items():
                self._function(f"{key.service}.{key.method}").invalidate(key.arguments, cause)
        self._applied.add(operation_id)

    def apply_request(self, request: session_pb2.Invalidate, peer_id: str) -> bool:
        """Invalidate keys at the request of another process, `peer_id`.

        Returns:
            Whether this member owns all of them. Keys of other owners are invalidated as far as they are known here,
            and their owners still have to be notified.

        Raises:
            UnknownMethod, InvalidArgument: this member cannot decode one of the keys. The other keys are invalidated.
        """
        origins = ("", *request.origins)
        causes = {origin: told_by(peer_id, origin) for origin in origins}
        told = [
            (reference.method, reference.arguments, origins[reference.origin if reference.origin < len(origins) else 0])
            for reference in request.keys
        ]
        keys: dict[Reference, Key] = {}
        refusal: FusionError | None = None
        for method, encoded, _ in told:
            try:
                self._function(method)  # raises unless it is a compute method
                keys[method, encoded] = self._ownership.key_of((method, encoded))
            except FusionError as error:  # from another version of the app; other keys are invalidated all the same
                refusal = refusal or error
        missing = self._applied.missing(request.operation_id, told)
        self.apply(
            {keys[method, encoded]: causes[origin] for method, encoded, origin in missing if (method, encoded) in keys}
        )
        self._applied.add_some(request.operation_id, keys)
        if refusal is not None:
            raise refusal
        return all(self._ownership.owns(key) for key in keys.values())
