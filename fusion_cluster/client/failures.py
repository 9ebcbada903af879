"""From a failed gRPC call to the exception that the other end meant."""

from __future__ import annotations

import grpc

from fusion_cluster.errors import (
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
    """The exception to raise for a call that failed."""
    status = status_from_metadata(error.trailing_metadata())
    if status is not None:
        return decode_error(status_to_error(status))
    kind = _PLAIN_CODES.get(error.code(), FusionError)
    return kind(f"{error.code().name}: {error.details() or 'no details'}")


def is_connection_lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection failed, as opposed to the gateway having answered."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and status_from_metadata(error.trailing_metadata()) is None
