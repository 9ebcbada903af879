"""What a client is told when something fails: a `google.rpc.Status`, never a traceback.

The code comes from the one table in `fusion_cluster.wire.errors`. Whatever that table calls internal is a fault of
ours: the client gets an id, and the log has the error under the same id.
"""

from __future__ import annotations

import logging
import secrets

from google.rpc import code_pb2, status_pb2

from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.errors import encode_error
from fusion_cluster.wire.status import error_to_status

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 700
"""Longer messages are cut: a status travels twice in the trailers, and clients take 8 KiB of them."""

MAX_NAME_CHARACTERS = 100
"""Longer names of fields and classes are cut."""


def failure_status(error: BaseException, method: str) -> status_pb2.Status:
    """The status for an error that a method of the app, or the cluster, gave.

    Args:
        error: what was raised.
        method: what the client called, for the log.
    """
    wire = encode_error(error)
    if wire.code == code_pb2.INTERNAL:
        return internal_status(error, method)
    if wire.members:
        wire.message += f" ({'; '.join(f'{member.type}: {member.message}' for member in wire.members)})"
    wire.message = _cut(wire.message)
    wire.field = wire.field[:MAX_NAME_CHARACTERS]
    wire.type = wire.type[:MAX_NAME_CHARACTERS]
    return error_to_status(wire)


def internal_status(error: BaseException, method: str) -> status_pb2.Status:
    """The status for a fault of ours: it names an id, and the log has the error under that id."""
    error_id = secrets.token_hex(6)
    logger.error("internal error %s in %s", error_id, method, exc_info=error)
    message = f"internal error {error_id}; the gateway's log has more"
    return error_to_status(session_pb2.Error(code=code_pb2.INTERNAL, type="InternalError", message=message))


def _cut(message: str) -> str:
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return message
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "…"
