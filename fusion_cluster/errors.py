"""The tree of errors: one root, five families.

Every error says whether trying again can help (`is_transient`) and, where it is known, when (`retry_after_s`) and which
parameter or field is at fault (`field`). `wire.errors` maps each class to one gRPC status code.
"""

from __future__ import annotations

from typing import ClassVar


class FusionError(Exception):
    """Root of all errors raised by fusion-cluster.

    Attributes:
        is_transient: trying the same again later can succeed.
        is_memoized: a computation that ends with this error is kept as a result; otherwise its computed is born
            invalidated and the next read computes again.
        retry_after_s: seconds to wait before trying again; None: not known.
        field: name of the parameter or field at fault; "": not known.
    """

    is_transient: ClassVar[bool] = False
    is_memoized: ClassVar[bool] = True

    def __init__(self, message: str = "", *, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        """The text of the error, without its class."""
        return str(self.args[0]) if self.args else ""


# -- usage: the caller is wrong ----------------------------------------------------------------------------------------
class UsageError(FusionError):
    """The call cannot be right: a wrong argument, a service that is not hosted, a misuse of the API."""


class InvalidArgument(UsageError):
    """An argument has the wrong count, name or type; `field` names the parameter."""


class InvalidResult(UsageError):
    """A method returned a value that does not match its annotation, cannot leave the process or cannot be frozen."""


class ResultChanged(UsageError):
    """A reader, or the service, changed a result in place that all readers share.

    The message names the method, the key and the change.
    """

    is_memoized = False


class ResourceExhausted(UsageError):
    """A method's result is too large to leave the process; trying again does not help."""


class UnknownService(UsageError):
    """The app has no service of this name."""


class UnknownMethod(UsageError):
    """The service has no compute method or command of this name."""


class PermissionDenied(UsageError):
    """The caller may not do this."""


# -- compute: a computation cannot end well ----------------------------------------------------------------------------
class ComputeError(FusionError):
    """A computation failed for a reason inside the graph."""


class CircularDependencyError(ComputeError):
    """A computation, or a command, waits for itself, directly or through others; the message names the path.

    Of a cycle of computations one gets it: which one depends on their keys alone. A command is refused that is called,
    with the same arguments, by a part of itself, or that would wait for the turn of one of its callers.
    """


class BodyExited(ComputeError):
    """User code raised something that is not an `Exception`, such as `SystemExit`, which would have ended the process.

    The message names the exception. Where the code ran, `__cause__` is the exception itself. The error is kept as a
    result like other errors.
    """


class BodyCancelled(BodyExited):
    """User code raised `CancelledError` although it was not cancelled itself: for example, it awaited a cancelled task.

    Callers of commands, and callers in other processes, get this error. It is never memoized.
    """

    is_memoized = False


class WorkerLost(ComputeError):
    """The process that ran an offloaded body is gone: killed, or out of memory. A later read runs the body again."""

    is_transient = True


class RemoteError(ComputeError):
    """An exception of user code, raised in another process, whose class is not known here.

    Attributes:
        error_type: name of the exception's class in the other process.
    """

    def __init__(
        self, message: str = "", *, error_type: str = "", field: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, field=field, retry_after_s=retry_after_s)
        self.error_type = error_type

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}" if self.error_type else self.message


# -- cluster: the other side is away, or cannot do it ------------------------------------------------------------------
class ClusterError(FusionError):
    """Something between this process and the owner of a key failed. The error is never memoized."""

    is_transient = True
    is_memoized = False


class ShardUnavailable(ClusterError):
    """The shard (or gateway) could not be reached before the deadline."""


class DeadlineExceeded(ClusterError):
    """The call's time ran out before its result came. For a command it means that nothing was committed."""


class Overloaded(ClusterError):
    """A limit is reached; `retry_after_s` says when to try again."""


class NotOwner(ClusterError):
    """The shard does not own the key: the slot map used was out of date.

    Attributes:
        slot_map_version: the oldest version of the slot map that is new enough.
    """

    def __init__(self, message: str = "", *, slot_map_version: int = 0) -> None:
        super().__init__(message)
        self.slot_map_version = slot_map_version


# -- protocol: one end breaks the session protocol ---------------------------------------------------------------------
class ProtocolError(FusionError):
    """A frame or an action is not allowed in the present state of the protocol."""

    is_memoized = False


class LocalProtocolError(ProtocolError):
    """This end tried something that is not allowed now: a bug here."""


class RemoteProtocolError(ProtocolError):
    """The other end sent something that is not allowed; the link is closed."""


class HandshakeRefused(ProtocolError):
    """The other end did not prove that it knows the cluster secret, or speaks another version of the protocol."""


# -- command -----------------------------------------------------------------------------------------
class CommandError(FusionError):
    """A command failed."""

    is_memoized = False


class CommandOutcomeUnknown(CommandError):
    """The shard was lost while the command ran. The command may or may not have run. Retry with the same id."""

    is_transient = True


class CommandNotRecorded(CommandOutcomeUnknown):
    """A retry was refused: the app does not record commands, so it is not known whether the command ran before."""

    is_transient = False


class CommandResultLost(CommandError):
    """The command ran once, but the process ended before the result was recorded; the result is lost."""


class DatabaseUnavailable(CommandError):
    """The database was away, or too busy, until the time was up; nothing was committed."""

    is_transient = True


class DatabaseNotWritable(CommandError):
    """The database refuses to write: its disk is full, or it is read-only. Nothing was committed."""


# -- ours -----------------------------------------------------------------------------------------
class InvariantViolation(FusionError):
    """An invariant of fusion-cluster itself does not hold. This is our bug: please report it."""
