"""Converts a failed gRPC call to the exception that the other end sent."""

from __future__ import annotations

import grpc

from fusion_cluster.errors import (
    CommandOutcomeUnknown,
    DeadlineExceeded,
    FusionError,
    InvalidArgument,
    Overloaded,
    ShardUnavailable,
    UnknownMethod,
)
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.status import status_from_metadata, status_to_error

_PLAIN_CODES: dict[grpc.StatusCode, type[FusionError]] = {
    grpc.StatusCode.UNAVAILABLE: ShardUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNIMPLEMENTED: UnknownMethod,
}


def call_error(error: grpc.aio.AioRpcError) -> Exception:
    """Return the exception to raise for a failed call."""
    status = status_from_metadata(error.trailing_metadata())
    if status is not None:
        return decode_error(status_to_error(status))
    kind = _PLAIN_CODES.get(error.code(), FusionError)
    return kind(f"{error.code().name}: {error.details() or 'no details'}")


def in_doubt(name: str, command_id: str) -> CommandOutcomeUnknown:
    """Return the error for a command that was sent, and whose answer was lost."""
    return CommandOutcomeUnknown(f"{name} may or may not have been carried out; retry with the command id {command_id}")


def is_connection_lost(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the connection failed, and the gateway has not answered."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and not is_answered(error)


def is_answered(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the error comes from the gateway, and not from gRPC at this end."""
    return status_from_metadata(error.trailing_metadata()) is not None
