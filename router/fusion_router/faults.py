"""Internal errors as clients see them: an id, under which the log has the error."""

from __future__ import annotations

import logging

from google.rpc import code_pb2

from fusion_cluster.failures.printing import printable
from fusion_cluster.runtime import SYSTEM
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.errors import encode_error

logger = logging.getLogger(__name__)


def client_error(error: BaseException, method: str) -> session_pb2.Error:
    """Return the message that a client gets for an error: never a traceback, and for an internal error only its id.

    Args:
        error: the error that was raised.
        method: the method that the client called, for the log.
    """
    wire = encode_error(error)
    return internal_error(error, method) if wire.code == code_pb2.INTERNAL else wire


def internal_error(error: BaseException, method: str) -> session_pb2.Error:
    """Log an internal error under a new id, and return the message for the client: that id."""
    error_id = SYSTEM.entropy.token_hex(6)
    logger.error("internal error %s in %s", error_id, method, exc_info=printable(error))
    message = f"internal error {error_id}; the gateway's log has more"
    return session_pb2.Error(code=code_pb2.INTERNAL, type="InternalError", message=message)
