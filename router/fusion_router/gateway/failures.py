"""Failures as clients see them: a `google.rpc.Status`, never a traceback.

The code comes from the one table in `fusion_cluster.wire.errors`. For errors that the table calls internal, the client
gets an id, and the log has the error under the same id.
"""

from __future__ import annotations

from google.rpc import status_pb2

from fusion_cluster.wire.status import error_to_status
from fusion_router.faults import client_error, internal_error

MAX_MESSAGE_BYTES = 700
"""Longer messages are cut: a status travels twice in the trailers, and clients take 8 KiB of them."""

MAX_NAME_CHARACTERS = 100
"""Longer names of fields and classes are cut."""


def failure_status(error: BaseException, method: str) -> status_pb2.Status:
    """Return the status for an error of a method of the app, or of the cluster.

    Args:
        error: the error that was raised.
        method: the method that the client called, for the log.
    """
    wire = client_error(error, method)
    if wire.members:
        wire.message += f" ({'; '.join(f'{member.type}: {member.message}' for member in wire.members)})"
    wire.message = _cut(wire.message)
    wire.field = wire.field[:MAX_NAME_CHARACTERS]
    wire.type = wire.type[:MAX_NAME_CHARACTERS]
    return error_to_status(wire)


def internal_status(error: BaseException, method: str) -> status_pb2.Status:
    """Return the status for an internal error: it names an id, and the log has the error under that id."""
    return error_to_status(internal_error(error, method))


def _cut(message: str) -> str:
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return message
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "…"
