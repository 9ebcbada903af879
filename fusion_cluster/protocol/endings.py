"""The ways in which calls end without a result, with the errors that their callers get."""

from __future__ import annotations

from collections.abc import Iterable

from fusion_cluster.errors import (
    CommandOutcomeUnknown,
    DeadlineExceeded,
    FusionError,
    HandshakeRefused,
    Overloaded,
    RemoteProtocolError,
    ShardUnavailable,
)
from fusion_cluster.protocol.call import CallKind, OutgoingCall
from fusion_cluster.protocol.events import Failed
from fusion_cluster.protocol.states import CallerCall
from fusion_cluster.v1.session_pb2 import Error


def late(calls: Iterable[OutgoingCall], *, is_reachable: bool) -> list[Failed]:
    """Return the failures of calls whose deadline has passed.

    Args:
        calls: the calls, in the states that they had.
        is_reachable: the owner was heard from lately.
    """
    unanswered: list[OutgoingCall] = []
    unknown: list[OutgoingCall] = []
    unreachable: list[OutgoingCall] = []
    for call in calls:
        if _may_have_run(call):
            unknown.append(call)
        elif is_reachable and call.state is CallerCall.SENT:
            unanswered.append(call)
        else:
            unreachable.append(call)
    return _failures(
        (unanswered, DeadlineExceeded("no result before the deadline")),
        (unreachable, ShardUnavailable("the owner could not be reached before the deadline")),
        (unknown, CommandOutcomeUnknown("the shard has not reported the outcome of the command in time")),
    )


def closed(calls: Iterable[OutgoingCall], error: FusionError) -> list[Failed]:
    """Return the failures of calls that waited when the session was closed.

    Args:
        calls: the calls, in the states that they had.
        error: why.
    """
    unknown: list[OutgoingCall] = []
    failed: list[OutgoingCall] = []
    for call in calls:
        (unknown if _may_have_run(call) else failed).append(call)
    return _failures(
        (failed, error),
        (unknown, CommandOutcomeUnknown("the link was closed while the command ran")),
    )


def refusal(error: Error, *, is_handshake: bool) -> FusionError:
    """Return the error that a GoAway means at this end: a transient one is worth another try."""
    message = f"the owner's end refused the session: {error.message}" if error.message else "the session was refused"
    if error.transient:
        return Overloaded(message, retry_after_s=error.retry_after_ms / 1000 if error.retry_after_ms else None)
    return HandshakeRefused(message) if is_handshake else RemoteProtocolError(message)


def _may_have_run(call: OutgoingCall) -> bool:
    return call.kind is CallKind.COMMAND and call.state is not CallerCall.WAITING


def _failures(*groups: tuple[list[OutgoingCall], FusionError]) -> list[Failed]:
    return [Failed(calls, error) for calls, error in groups if calls]
