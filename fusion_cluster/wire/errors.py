"""The table of errors: each of our classes has one `google.rpc` code. And how errors travel.

An error travels as its class's name, its message and what a caller can act on (field, transience, when to retry); never
as a traceback. Our own classes and a few builtins are rebuilt at the other end; any other becomes a RemoteError.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from types import MappingProxyType

from google.rpc import code_pb2

from fusion_cluster import errors
from fusion_cluster.errors import FusionError, RemoteError
from fusion_cluster.v1 import session_pb2

CODES: Mapping[type[FusionError], int] = MappingProxyType(
    {
        errors.FusionError: code_pb2.UNKNOWN,
        errors.UsageError: code_pb2.FAILED_PRECONDITION,
        errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
        errors.InvalidResult: code_pb2.FAILED_PRECONDITION,
        errors.ResultChanged: code_pb2.FAILED_PRECONDITION,
        errors.UnknownService: code_pb2.NOT_FOUND,
        errors.UnknownMethod: code_pb2.NOT_FOUND,
        errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
        errors.ComputeError: code_pb2.UNKNOWN,
        errors.CircularDependencyError: code_pb2.FAILED_PRECONDITION,
        errors.BodyExited: code_pb2.UNKNOWN,
        errors.WorkerLost: code_pb2.UNAVAILABLE,
        errors.RemoteError: code_pb2.UNKNOWN,
        errors.ClusterError: code_pb2.UNAVAILABLE,
        errors.ShardUnavailable: code_pb2.UNAVAILABLE,
        errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
        errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
        errors.NotOwner: code_pb2.UNAVAILABLE,
        errors.ProtocolError: code_pb2.INTERNAL,
        errors.LocalProtocolError: code_pb2.INTERNAL,
        errors.RemoteProtocolError: code_pb2.INVALID_ARGUMENT,
        errors.HandshakeRefused: code_pb2.UNAUTHENTICATED,
        errors.CommandError: code_pb2.ABORTED,
        errors.CommandOutcomeUnknown: code_pb2.UNAVAILABLE,
        errors.CommandNotRecorded: code_pb2.UNKNOWN,
        errors.CommandResultLost: code_pb2.DATA_LOSS,
        errors.DatabaseUnavailable: code_pb2.UNAVAILABLE,
        errors.DatabaseNotWritable: code_pb2.FAILED_PRECONDITION,
        errors.InvariantViolation: code_pb2.INTERNAL,
    }
)
"""Each class of `fusion_cluster.errors` and its code; a user's own subclass has that of its nearest ancestor."""

_OURS = {error.__name__: error for error in CODES}
_BUILTINS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        *(ArithmeticError, AssertionError, AttributeError, BlockingIOError, BrokenPipeError, ConnectionAbortedError),
        *(ConnectionError, ConnectionRefusedError, ConnectionResetError, EOFError, FileExistsError, FileNotFoundError),
        *(FloatingPointError, IndexError, InterruptedError, KeyError, LookupError, NotImplementedError, OSError),
        *(OverflowError, PermissionError, RuntimeError, TimeoutError, TypeError, ValueError, ZeroDivisionError),
    )
}
_MAX_MESSAGE_CHARS = 4096
_MAX_UINT32 = 2**32 - 1


def error_code(error: BaseException) -> int:
    """The `google.rpc.Code` of an exception; UNKNOWN for those of user code."""
    if isinstance(error, asyncio.CancelledError):
        return int(code_pb2.CANCELLED)
    for ancestor in type(error).__mro__:
        code = CODES.get(ancestor)
        if code is not None:
            return code
    return int(code_pb2.UNKNOWN)


def encode_error(error: BaseException) -> session_pb2.Error:
    """The error as a message."""
    encoded = session_pb2.Error(code=error_code(error), type=_type_name(error), message=_message(error))
    encoded.transient = bool(getattr(error, "is_transient", False))
    if isinstance(error, FusionError):
        encoded.field = _text(error.field)
    retry_after_s = getattr(error, "retry_after_s", None)
    if isinstance(retry_after_s, int | float) and retry_after_s > 0:
        encoded.retry_after_ms = math.ceil(min(retry_after_s * 1000, _MAX_UINT32))
    return encoded


def decode_error(encoded: session_pb2.Error) -> Exception:
    """The exception to raise for an error that came from another process."""
    retry_after_s = encoded.retry_after_ms / 1000 if encoded.retry_after_ms else None
    ours = _OURS.get(encoded.type)
    if ours is errors.NotOwner:
        return errors.NotOwner(encoded.message)
    if ours is not None and ours is not RemoteError:
        return ours(encoded.message, field=encoded.field, retry_after_s=retry_after_s)
    builtin = _BUILTINS.get(encoded.type)
    if builtin is not None:
        return builtin(encoded.message)
    remote = RemoteError(encoded.message, error_type=encoded.type, field=encoded.field, retry_after_s=retry_after_s)
    # What the class says of all RemoteErrors, the other end knows better of this one.
    remote.__dict__["is_transient"] = encoded.transient
    return remote


def _type_name(error: BaseException) -> str:
    if isinstance(error, RemoteError):
        return error.error_type or "RemoteError"
    return type(error).__name__


def _message(error: BaseException) -> str:
    if isinstance(error, FusionError):
        return _text(error.message)
    original = getattr(error, "orig", None)  # what SQLAlchemy has wrapped: its own text shows the statement
    if isinstance(original, Exception):
        error = original
    if len(error.args) == 1 and isinstance(error.args[0], str):
        return _text(error.args[0])  # a KeyError's str() has quotes around it
    try:
        return _text(str(error))
    except Exception:  # a user's __str__ may do anything
        return ""


def _text(text: str) -> str:
    if len(text) > _MAX_MESSAGE_CHARS:
        text = text[: _MAX_MESSAGE_CHARS - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")
