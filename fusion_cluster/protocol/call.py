"""One call as the caller's end keeps it, from `start` until it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from fusion_cluster.protocol.states import CallerCall
from fusion_cluster.v1.session_pb2 import Invalidate, Result

_WAITING: Final = CallerCall.WAITING


class CallKind(IntEnum):
    """What is asked of the owner. READ and COMMAND have the numbers of `Call.Kind`."""

    READ = 0
    COMMAND = 1
    INVALIDATION = 2


class OutgoingCall:
    """A read, a command or an invalidation request.

    Attributes:
        id: given by the session at `start`; 0 before.
        deadline_s: on the session's clock; infinite when there is none.
        state: see `states`; set by the session alone.
        is_reported: the read's invalidation has been reported, or is not to be.
        result: there while the call is part of an `Answered` event; whoever takes it lets go of it, for it keeps the
            memory of its whole frame.
        command_id: of a COMMAND; others have none.
        invalidate: of an INVALIDATION; others have none.
        slot_map_version: of the Moved that answered it; unset before.
    """

    __slots__ = (
        "arguments",
        "command_id",
        "deadline_s",
        "id",
        "invalidate",
        "is_reported",
        "kind",
        "method",
        "path",
        "result",
        "slot_map_version",
        "state",
    )

    command_id: str
    invalidate: Invalidate
    slot_map_version: int

    def __init__(
        self, kind: CallKind, method: str, arguments: bytes, deadline_s: float = float("inf"), path: Sequence[str] = ()
    ) -> None:
        self.id = 0
        self.kind = kind
        self.method = method
        self.arguments = arguments
        self.deadline_s = deadline_s
        self.path = path
        self.state = _WAITING
        self.is_reported = False
        self.result: Result | None = None

    def __repr__(self) -> str:
        return f"<{self.kind.name.lower()} {self.id} {self.method} {self.state.name.lower()}>"
