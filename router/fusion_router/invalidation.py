"""Invalidations in one member: plans who has to know of them, and applies those that are made here.

Invariant: a member that is told of a key and does not own it says so. It may be that only the next owner of the key
has anything to invalidate, and a command must not return before that one has done it.
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
    """What goes with a key to its owner.

    Attributes:
        slot: of the key.
        origin: what it is invalidated for, in words for people; "": nothing to say.
    """

    slot: int
    origin: str = ""


Told = Mapping[Reference, Sent]
"""Keys to invalidate elsewhere. They are encoded when they are planned: their arguments may be changed later."""


@dataclass(frozen=True, slots=True)
class InvalidationPlan:
    """Where keys have to be invalidated: each one in exactly one place.

    Attributes:
        local: the keys that this member owns.
        remote: the others, by the shard that owns them; -1: no slot map says who.
    """

    local: dict[Key, Cause] = field(default_factory=dict)
    remote: dict[int, dict[Reference, Sent]] = field(default_factory=dict)


def plan_invalidation(keys: Keys, ownership: Ownership) -> InvalidationPlan:
    """Plan who has to know that keys are out of date, by the slot map of this moment. Changes nothing.

    Args:
        keys: which, and why.
        ownership: who owns them.

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
    """Plan the same for keys that some owner was to be told of: they may have other owners now, this member for one.

    Args:
        told: the keys.
        ownership: who owns them.
        teller: names this member, for the causes.
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
        ownership: who owns which key.
        applied: the logged operations whose invalidations are applied here.
    """

    def __init__(
        self, function: Callable[[str], ComputeFunction], ownership: Ownership, applied: AppliedOperations
    ) -> None:
        self._function = function
        self._ownership = ownership
        self._applied = applied

    def apply(self, keys: Keys, operation_id: str = "") -> None:
        """Invalidate what this member has of keys, its own and replicas of others'.

        Args:
            keys: which, and why: all those of an operation.
            operation_id: the logged operation that they belong to, which is applied once; "": there is none.
        """
        if operation_id not in self._applied:
            for key, cause in keys.items():
                self._function(f"{key.service}.{key.method}").invalidate(key.arguments, cause)
        self._applied.add(operation_id)

    def apply_request(self, request: session_pb2.Invalidate, peer_id: str) -> bool:
        """Invalidate keys that another process, `peer_id`, says have changed.

        Returns:
            Whether this member owns all of them. The others are invalidated as far as they are known here, and their
            owner still has to be told.

        Raises:
            UnknownMethod, InvalidArgument: this member cannot tell what one of the keys is. The others are invalidated.
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
                self._function(method)  # says whether it is a compute method
                keys[method, encoded] = self._ownership.key_of((method, encoded))
            except FusionError as error:  # of another version of the app; the other keys are invalidated all the same
                refusal = refusal or error
        missing = self._applied.missing(request.operation_id, told)
        self.apply(
            {keys[method, encoded]: causes[origin] for method, encoded, origin in missing if (method, encoded) in keys}
        )
        self._applied.add_some(request.operation_id, keys)
        if refusal is not None:
            raise refusal
        return all(self._ownership.owns(key) for key in keys.values())
