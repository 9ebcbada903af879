"""Events of a session for its user: frozen, one for each kind of entry in a frame, each with the whole batch.

The user handles them in the order given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from fusion_cluster.errors import FusionError
from fusion_cluster.protocol.call import OutgoingCall
from fusion_cluster.protocol.edge_chasing import Probe
from fusion_cluster.v1.session_pb2 import Call, Invalidate


# -- the caller's end -------------------------------------------------------------------------------------------------
class Opened(Struct, frozen=True):
    """The session is open.

    Attributes:
        epoch: the owner's incarnation.
        is_resumed: the previous session goes on. Otherwise it is lost, if there was one.
    """

    epoch: int
    is_resumed: bool


class Answered(Struct, frozen=True):
    """Results came: `call.result` of each. Reads among them are subscribed until an `Outdated` names them."""

    calls: Sequence[OutgoingCall]


class Outdated(Struct, frozen=True):
    """Reads whose value is out of date, or cannot be proved fresh any more: `call.outdated_by` of each says which.

    Each read is named once at most.
    """

    calls: Sequence[OutgoingCall]


class MovedAway(Struct, frozen=True):
    """Calls that went to the wrong owner: `call.slot_map_version` of each says which slot map to look at."""

    calls: Sequence[OutgoingCall]


class Failed(Struct, frozen=True):
    """Calls that have ended without a result, with an error from this session."""

    calls: Sequence[OutgoingCall]
    error: FusionError


class BarriersReached(Struct, frozen=True):
    """Barriers to settle, each once, when everything reported before is applied."""

    barriers: Sequence[int]


class Doubted(Struct, frozen=True):
    """The carrier is gone: nobody knows whether the answered reads are up to date. `Assured` ends it."""


class Assured(Struct, frozen=True):
    """The answered reads that have not been reported as out of date are up to date."""


class Leaving(Struct, frozen=True):
    """The owner's end is about to leave: new calls wait for the next carrier."""


class Refused(Struct, frozen=True):
    """The owner's end refused the handshake, or ended the session: close the carrier.

    Attributes:
        error: the reason; if it is not transient, dialling again does not help.
    """

    error: FusionError


class Silent(Struct, frozen=True):
    """Nothing was heard from the owner's end for a read lease: close the carrier."""


CallerEvent: TypeAlias = (
    Opened | Answered | Outdated | MovedAway | Failed | BarriersReached | Doubted | Assured | Leaving | Refused | Silent
)


# -- the owner's end --------------------------------------------------------------------------------------------------
class Called(Struct, frozen=True):
    """Reads and commands to run."""

    calls: Sequence[Call]


class Cancelled(Struct, frozen=True):
    """Running calls whose callers have left. Handling an earlier event may have answered some of them already."""

    ids: Sequence[int]


class Unsubscribed(Struct, frozen=True):
    """Subscribed reads whose replicas are gone. Handling an earlier event may have invalidated some of them already."""

    ids: Sequence[int]


class InvalidationRequested(Struct, frozen=True):
    """Keys to invalidate; answer with a result."""

    request: Invalidate


class BarrierAnswered(Struct, frozen=True):
    """One mark of a barrier is answered.

    Attributes:
        barrier: the barrier of the mark.
        confirms: everything sent before the mark is settled at the other end and below it, for all barriers.
    """

    barrier: int
    confirms: bool


class Probed(Struct, frozen=True):
    """A probe came along a read that runs.

    Attributes:
        call_id: the id of the read.
        probe: as it came.
    """

    call_id: int
    probe: Probe


class Left(Struct, frozen=True):
    """The caller has left for good: the session is over."""


OwnerEvent: TypeAlias = Called | Cancelled | Unsubscribed | InvalidationRequested | BarrierAnswered | Probed | Left
