"""The table of errors, one `google.rpc` code for each of our classes, and the way of errors to other processes.

An error travels as its class's name, its message, its notes and what a caller can act on (field, transience, when to
retry); an exception group with its members. Our own classes and a few builtins are rebuilt at the other end; any other
becomes a RemoteError. Between members of a cluster the class of any error travels too (see `error_classes`), and its
traceback, which becomes a note; never to clients.

Invariant: whatever the error is, `encode_error` raises nothing, and what it gives is no longer than `MAX_CHARS`.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from google.rpc import code_pb2

from fusion_cluster import errors
from fusion_cluster.errors import FusionError, RemoteError
from fusion_cluster.failures.exact_copies import ARGS, MEMBERS, MESSAGE
from fusion_cluster.failures.exits import TRACEBACK, reraise_outside
from fusion_cluster.failures.printing import printable
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.error_classes import (
    attributes_of,
    class_name,
    encoded_state,
    known_class,
    made_again,
    original_class,
    remote_class,
)

T = TypeVar("T")

CODES: Mapping[type[FusionError], int] = MappingProxyType(
    {
        errors.FusionError: code_pb2.UNKNOWN,
        errors.UsageError: code_pb2.FAILED_PRECONDITION,
        errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
        errors.InvalidResult: code_pb2.FAILED_PRECONDITION,
        errors.ResultChanged: code_pb2.FAILED_PRECONDITION,
        errors.ResourceExhausted: code_pb2.RESOURCE_EXHAUSTED,
        errors.UnknownService: code_pb2.NOT_FOUND,
        errors.UnknownMethod: code_pb2.NOT_FOUND,
        errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
        errors.ComputeError: code_pb2.UNKNOWN,
        errors.CircularDependencyError: code_pb2.FAILED_PRECONDITION,
        errors.BodyExited: code_pb2.UNKNOWN,
        errors.BodyCancelled: code_pb2.UNKNOWN,
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
MAX_CHARS: Final = 128 * 1024
"""Of all the text of one error and its members together, roughly."""
MAX_MESSAGE_CHARS: Final = 4096
MAX_TRACEBACK_CHARS: Final = 16 * 1024
MAX_NOTES: Final = 16
MAX_MEMBERS: Final = 100
"""Of one group and all groups in it together."""
MAX_DEPTH: Final = 8
"""Deepest nesting of groups."""
_MAX_UINT32 = 2**32 - 1


class RemoteTraceback(str):
    """A note that says where an error was raised in another process. It never leaves the cluster."""

    __slots__ = ()


def error_code(error: BaseException) -> int:
    """Return the `google.rpc.Code` of an exception; UNKNOWN for those of user code."""
    if issubclass(type(error), asyncio.CancelledError):
        return int(code_pb2.CANCELLED)
    for ancestor in type(error).__mro__:
        code = CODES.get(ancestor)
        if code is not None:
            return code
    return int(code_pb2.UNKNOWN)


def encode_error(error: BaseException, *, for_member: bool = False) -> session_pb2.Error:
    """Return the error as a message.

    Args:
        error: any; what it is asked for may raise.
        for_member: it stays in the cluster: with its class, what it holds, and its traceback.
    """
    encoded = _Encoding(for_member=for_member).error(error, MAX_DEPTH)
    if for_member and _has_traceback(error):
        encoded.traceback = _traceback(error)
    return encoded


def decode_error(encoded: session_pb2.Error) -> Exception:
    """Return the exception to raise for an error that came from another process."""
    error = _decoded(encoded)
    notes: list[str] = list(encoded.notes)
    if encoded.traceback:
        notes.append(RemoteTraceback(f"in another process:\n{encoded.traceback}"))
    if notes:
        attributes_of(error)["__notes__"] = notes  # `add_note` sets an attribute, which its class may refuse
    return error


# -- to a message ------------------------------------------------------------------------------------------------------
class _Encoding:
    """One error on its way out, with the room that is left for its text and its members."""

    def __init__(self, *, for_member: bool) -> None:
        self._for_member = for_member
        self._chars = MAX_CHARS
        self._members = MAX_MEMBERS

    def error(self, error: BaseException, depth: int) -> session_pb2.Error:
        encoded = session_pb2.Error(code=error_code(error), type=self._text(_type_name(error)))
        encoded.message = self._text(_asked(lambda: _message(error)) or "")
        encoded.transient = bool(_asked(lambda: bool(getattr(error, "is_transient", False))))
        if issubclass(type(error), FusionError):
            encoded.field = self._text(_asked(lambda: error.field) or "")  # type: ignore[attr-defined]
        retry_after_s = _asked(lambda: float(getattr(error, "retry_after_s", None) or 0.0)) or 0.0
        if retry_after_s > 0:
            encoded.retry_after_ms = math.ceil(min(retry_after_s * 1000, _MAX_UINT32))
        encoded.notes.extend(self._notes(error))
        if issubclass(type(error), BaseExceptionGroup):
            self._add_members(encoded, MEMBERS.__get__(error), depth)
        if self._for_member and original_class(error) not in CODES:
            encoded.class_name = _asked(lambda: class_name(original_class(error))) or ""
            if encoded.class_name and not encoded.members:
                state = _asked(lambda: encoded_state(error)) or b""
                if len(state) <= self._chars:
                    self._chars -= len(state)
                    encoded.state = state
        return encoded

    def _notes(self, error: BaseException) -> list[str]:
        notes = attributes_of(error).get("__notes__")
        if not isinstance(notes, list):
            return []
        told = [note for note in notes if isinstance(note, str) and not isinstance(note, RemoteTraceback)]
        return [self._text(note) for note in told[:MAX_NOTES]]

    def _add_members(self, encoded: session_pb2.Error, members: Sequence[BaseException], depth: int) -> None:
        count = min(len(members), self._members) if depth > 0 else 0
        self._members -= count
        for member in members[:count]:
            encoded.members.append(self.error(member, depth - 1))
        if count < len(members):
            encoded.notes.append(f"{len(members) - count:,} more exceptions were left out on the way")

    def _text(self, text: object) -> str:
        if not isinstance(text, str):
            return ""
        room = max(min(self._chars, MAX_MESSAGE_CHARS), 1)
        if len(text) > room:
            text = text[: room - 1] + "…"
        self._chars -= len(text)
        return text.encode("utf-8", "replace").decode("utf-8")


def _asked(ask: Callable[[], T]) -> T | None:
    """Return what an error says of itself; None if it raises instead."""
    try:
        return ask()
    except BaseException as raised:  # a user's class may do anything
        reraise_outside(raised)
        return None


def _type_name(error: BaseException) -> str:
    if type(error) is RemoteError:
        return error.error_type or "RemoteError"
    return original_class(error).__name__


def _message(error: BaseException) -> str:
    cls = type(error)
    if issubclass(cls, BaseExceptionGroup):
        return str(MESSAGE.__get__(error))
    if issubclass(cls, FusionError) and original_class(error) is cls:
        return str(error.message)  # type: ignore[attr-defined]
    original = getattr(error, "orig", None)  # what SQLAlchemy has wrapped: its own text shows the statement
    if isinstance(original, Exception):
        error = original
    arguments = ARGS.__get__(error)
    if len(arguments) == 1 and isinstance(arguments[0], str):
        return arguments[0]  # a KeyError's str() has quotes around it
    return str(error)


def _has_traceback(error: BaseException) -> bool:
    """Tell whether it is worth something to know where it was raised: not of what the library itself tells a caller."""
    cls = original_class(error)
    return cls not in CODES or cls in (errors.BodyExited, errors.BodyCancelled, errors.InvariantViolation)


def _traceback(error: BaseException) -> str:
    shown = printable(error)
    text = "".join(traceback.format_exception(type(shown), shown, TRACEBACK.__get__(shown))).rstrip()
    if len(text) > MAX_TRACEBACK_CHARS:
        text = "…" + text[1 - MAX_TRACEBACK_CHARS :]
    return text.encode("utf-8", "replace").decode("utf-8")


# -- and back ----------------------------------------------------------------------------------------------------------
def _decoded(encoded: session_pb2.Error) -> Exception:
    retry_after_s = encoded.retry_after_ms / 1000 if encoded.retry_after_ms else None
    ours = _OURS.get(encoded.type)
    if encoded.members:
        return _group(encoded)
    if ours is errors.NotOwner:
        return errors.NotOwner(encoded.message)
    if ours is not None and ours is not RemoteError:
        return ours(encoded.message, field=encoded.field, retry_after_s=retry_after_s)
    remote = RemoteError(encoded.message, error_type=encoded.type, field=encoded.field, retry_after_s=retry_after_s)
    if encoded.class_name and encoded.state:
        again = made_again(encoded.class_name, encoded.state, remote)
        if again is not None:
            return again
    builtin = _BUILTINS.get(encoded.type)
    if builtin is not None:
        return builtin(encoded.message)
    # What the class says of all RemoteErrors, the other end knows better of this one.
    remote.__dict__["is_transient"] = encoded.transient
    return remote


def _group(encoded: session_pb2.Error) -> Exception:
    members = [decode_error(member) for member in encoded.members]
    cls = known_class(encoded.class_name)
    if cls is not None and issubclass(cls, ExceptionGroup) and cls is not ExceptionGroup:
        with suppress(TypeError):
            made: Any = remote_class(cast("Hashable", cls))
            group: Exception = ExceptionGroup.__new__(made, encoded.message, members)
            attributes_of(group).update(vars(RemoteError(error_type=encoded.type)))
            return group
    return ExceptionGroup(encoded.message, members)
