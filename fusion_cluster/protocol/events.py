"""What a session tells its user: frozen, one for each kind of thing in a frame, each carrying the whole batch.

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
        is_resumed: the session before goes on. Otherwise it is lost, if there was one.
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
    """Calls that have ended with an error of the session's own, and without a result."""

    calls: Sequence[OutgoingCall]
    error: FusionError


class BarriersReached(Struct, frozen=True):
    """Barriers to settle, each once, when all that was told before is applied."""

    barriers: Sequence[int]


class Leaving(Struct, frozen=True):
    """The owner's end is about to leave: new calls wait for the next carrier."""


class Refused(Struct, frozen=True):
    """The owner's end refused the handshake, or ended the session: close the carrier.

    Attributes:
        error: why; when it is not transient, dialling again does not help.
    """

    error: FusionError


class Silent(Struct, frozen=True):
    """Nothing was heard from the owner's end for a read lease: close the carrier."""


CallerEvent: TypeAlias = (
    Opened | Answered | Outdated | MovedAway | Failed | BarriersReached | Leaving | Refused | Silent
)


# -- the owner's end --------------------------------------------------------------------------------------------------
class Called(Struct, frozen=True):
    """Reads and commands to run."""

    calls: Sequence[Call]


class Cancelled(Struct, frozen=True):
    """Calls that still ran, and whose callers have left. An event before it may have got some of them answered."""

    ids: Sequence[int]


class Unsubscribed(Struct, frozen=True):
    """Reads that were subscribed, and whose replicas are gone. An event before it may have invalidated some of them."""

    ids: Sequence[int]


class InvalidationRequested(Struct, frozen=True):
    """Keys to invalidate; answer with a result."""

    request: Invalidate


class BarrierAnswered(Struct, frozen=True):
    """One mark of a barrier is answered.

    Attributes:
        barrier: whose mark.
        confirms: all that was sent before it is settled at the other end and below it; not only for this barrier.
    """

    barrier: int
    confirms: bool


class Probed(Struct, frozen=True):
    """A probe came along a read that runs.

    Attributes:
        call_id: of the read.
        probe: as it came.
    """

    call_id: int
    probe: Probe


class Left(Struct, frozen=True):
    """The caller has left for good: the session is over."""


OwnerEvent: TypeAlias = Called | Cancelled | Unsubscribed | InvalidationRequested | BarrierAnswered | Probed | Left
