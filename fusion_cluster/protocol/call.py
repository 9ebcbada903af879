"""One call as the caller's end keeps it, from `start` until it has ended, and how it goes into a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct

from fusion_cluster.errors import InvalidArgument
from fusion_cluster.protocol.states import ON_CALLER_CALL, CallerCall, CallerCallEvent
from fusion_cluster.runtime.baggage import NO_BAGGAGE
from fusion_cluster.v1.session_pb2 import Caller, ClientFrame, Invalidate, Result


class CallKind(IntEnum):
    """The kind of a request to the owner. READ and COMMAND have the numbers of `Call.Kind`."""

    READ = 0
    COMMAND = 1
    INVALIDATION = 2


class OutdatedBy(IntEnum):
    """Why a read is reported as out of date."""

    OWNER = 0
    """The owner says so."""
    LEASE = 1
    """Nothing was heard from the owner for a read lease."""
    CARRIER = 2
    """The connection was lost, and not resumed in time: the owner may have said so since."""
    CLOSE = 3
    """The session was closed."""


ANSWER_GRACE_S: Final = 0.25
"""How long after its deadline a command may be answered."""

_READ: Final = CallKind.READ
_INFINITY: Final = float("inf")
_MAX_TIMEOUT_MS: Final = 2**32 - 1
_ON_SEND: Final = ON_CALLER_CALL[CallerCallEvent.SEND]


class OutgoingCall(Struct, eq=False):
    """A read, a command or an invalidation request. A struct, because one is made for every call.

    Attributes:
        kind: the kind of the request.
        method: "Service.method".
        arguments: as encoded for the wire.
        deadline_s: on the session's clock; infinite when there is none.
        command_id: of a COMMAND.
        is_retry: of a COMMAND whose id was sent before.
        baggage: data that travels with the call for others.
        callers: of a COMMAND, the commands that wait for it.
        invalidate: of an INVALIDATION.
        id: given by the session at `start`; 0 before.
        state: see `states`; only the session sets it.
        is_reported: the read's invalidation has been reported, or needs no report.
        outdated_by: why the read is out of date, once that was reported.
        result: set while the call is part of an `Answered` event. Do not keep it: it holds the memory of its whole
            frame.
        slot_map_version: from the Moved that answered it.
    """

    kind: CallKind
    method: str
    arguments: bytes
    deadline_s: float = _INFINITY
    command_id: str = ""
    is_retry: bool = False
    baggage: Mapping[str, str] = NO_BAGGAGE
    callers: Sequence[Caller] = ()
    invalidate: Invalidate | None = None
    id: int = 0
    state: CallerCall = CallerCall.WAITING
    is_reported: bool = False
    outdated_by: OutdatedBy = OutdatedBy.OWNER
    result: Result | None = None
    slot_map_version: int = 0

    @property
    def gives_up_at_s(self) -> float:
        """When it ends without a result. A command waits a little longer for its owner to report the outcome."""
        is_running = self.kind is CallKind.COMMAND and self.state is CallerCall.SENT
        return self.deadline_s + ANSWER_GRACE_S if is_running else self.deadline_s

    def latest_deadline_s(self) -> float:
        """Return the deadline as it is now: the callers that wait for a read can change."""
        return self.deadline_s

    def __repr__(self) -> str:
        return f"<{self.kind.name.lower()} {self.id} {self.method} {self.state.name.lower()}>"


def check_text(call: OutgoingCall) -> None:
    """Check that the names of a call can go into a frame: not every Python string is Unicode text.

    Raises:
        InvalidArgument: one cannot; `field` names it.
    """
    for field, text in (("method", call.method), ("command_id", call.command_id)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the {field} is not Unicode text: {error}", field=field) from None


def add_calls(frame: ClientFrame, calls: Iterable[OutgoingCall], now_s: float) -> None:
    """Put calls into a frame that is about to leave, except those that need not be sent any more."""
    add = frame.calls.add
    for call in calls:
        state = _ON_SEND.get(call.state)
        if state is None:
            continue  # ended before it left, or answered by the owner's end of a resumed session
        call.state = state
        deadline_s = call.deadline_s
        if deadline_s == _INFINITY:
            timeout_ms = 0
        else:
            timeout_ms = int((deadline_s - now_s) * 1000)
            if not 1 <= timeout_ms <= _MAX_TIMEOUT_MS:
                timeout_ms = 1 if timeout_ms < 1 else _MAX_TIMEOUT_MS
        if call.kind is _READ and not call.baggage:
            add(id=call.id, method=call.method, arguments=call.arguments, timeout_ms=timeout_ms)
        elif call.invalidate is not None:
            call.invalidate.id = call.id
            frame.invalidations.append(call.invalidate)
        else:
            add(
                id=call.id,
                kind=call.kind.value,
                method=call.method,
                arguments=call.arguments,
                timeout_ms=timeout_ms,
                command_id=call.command_id,
                is_retry=call.is_retry,
                baggage=call.baggage,
                callers=call.callers,
            )
