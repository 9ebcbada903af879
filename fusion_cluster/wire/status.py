"""`google.rpc.Status`: how an error of the wire format travels in gRPC, and how it is read back.

The session's `Error` carries the same facts in one flat message; here they are spread over the standard details that
any gRPC client knows: `BadRequest` names the field, `RetryInfo` says when to try again, `ErrorInfo` names the class.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from fusion_cluster.v1 import session_pb2

DOMAIN = "fusion-cluster"
"""`ErrorInfo.domain` of all our errors."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a serialized `google.rpc.Status`."""


def error_to_status(error: session_pb2.Error) -> status_pb2.Status:
    """Return the same error as a status with `google.rpc` details."""
    status = status_pb2.Status(code=error.code, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.type, domain=DOMAIN)
    if error.transient:
        info.metadata["transient"] = "true"
    status.details.add().Pack(info)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_ms:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(retry)
    return status


def status_to_error(status: status_pb2.Status) -> session_pb2.Error:
    """Return the error that a status was made from; parts that another server left out stay empty."""
    error = session_pb2.Error(code=status.code, message=status.message)
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            error.type = info.reason
            error.transient = info.metadata.get("transient") == "true"
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            error.field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            error.retry_after_ms = min(max(0, retry.retry_delay.ToMilliseconds()), 2**32 - 1)
    return error


def status_from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> status_pb2.Status | None:
    """Return the status in the trailing metadata of a call; None if it has none that can be read."""
    for key, value in metadata or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # not written by us
                return None
    return None
