"""One call as the caller's end keeps it, from `start` until it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from msgspec import Struct

from fusion_cluster.protocol.states import CallerCall
from fusion_cluster.v1.session_pb2 import Invalidate, Result


class CallKind(IntEnum):
    """What is asked of the owner. READ and COMMAND have the numbers of `Call.Kind`."""

    READ = 0
    COMMAND = 1
    INVALIDATION = 2


class OutgoingCall(Struct, eq=False):
    """A read, a command or an invalidation request. A struct, for one is made for every call.

    Attributes:
        kind: what is asked.
        method: "Service.method".
        arguments: as encoded for the wire.
        deadline_s: on the session's clock; infinite when there is none.
        path: keys of the computations that wait for this call.
        command_id: of a COMMAND.
        invalidate: of an INVALIDATION.
        id: given by the session at `start`; 0 before.
        state: see `states`; set by the session alone.
        is_reported: the read's invalidation has been reported, or is not to be.
        result: there while the call is part of an `Answered` event; whoever takes it lets go of it, for it keeps the
            memory of its whole frame.
        slot_map_version: of the Moved that answered it.
    """

    kind: CallKind
    method: str
    arguments: bytes
    deadline_s: float = float("inf")
    path: Sequence[str] = ()
    command_id: str = ""
    invalidate: Invalidate | None = None
    id: int = 0
    state: CallerCall = CallerCall.WAITING
    is_reported: bool = False
    result: Result | None = None
    slot_map_version: int = 0

    def __repr__(self) -> str:
        return f"<{self.kind.name.lower()} {self.id} {self.method} {self.state.name.lower()}>"
