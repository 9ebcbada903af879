"""The record of a command in the operation log: enough to answer a retry without running it again.

An *outcome* is a result or an error as bytes: the letter `v` and the value in msgpack, or `e` and the error as a
message of the session protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from fusion_cluster.catalogue.method import Method
from fusion_cluster.errors import CommandResultLost, FusionError, InvalidArgument
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.codec import encode_msgpack
from fusion_cluster.wire.errors import decode_error, encode_error

LoggedKey = tuple[str, bytes, str]
"""A key as it leaves the process: the method's full name, the encoded arguments, and the cause of its invalidation."""

_VALUE: Final = b"v"
_ERROR: Final = b"e"

NONE_OUTCOME: Final = _VALUE + encode_msgpack(None)
"""The outcome of a command that returns nothing."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command.

    Attributes:
        value: its result.
        is_replayed: an earlier run under the same id gave it; the command did not run now.
    """

    value: Any
    is_replayed: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of a command that has run.

    Attributes:
        command_id: its id.
        fingerprint: a digest of its name and arguments.
        outcome: its outcome; None: not known.
        keys: the keys that it has invalidated; empty once its entry has been trimmed.
        host: the host that has run it; "" once its entry has been trimmed.
        committed_at: the time of its commit, in seconds since the epoch.
    """

    command_id: str
    fingerprint: bytes | None
    outcome: bytes | None
    keys: tuple[LoggedKey, ...] = ()
    host: str = ""
    committed_at: float = 0.0

    def check(self, method: Method, fingerprint: bytes) -> None:
        """Check that a retry asks for the same command.

        Raises:
            InvalidArgument: the id was used for another command, or for other arguments.
        """
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise InvalidArgument(
                f"the command id {self.command_id!r} was used before, for another command than this "
                f"{method.name} or with other arguments",
                field="command_id",
            )

    def replay(self, method: Method) -> CommandResult:
        """Return the result of the earlier run.

        Raises:
            CommandResultLost: it has run, but its result was not recorded.
            Exception: the error that the earlier run raised.
        """
        if self.outcome is None:
            raise CommandResultLost(
                f"{method.name} has run under the id {self.command_id!r}, but its result is not recorded: the "
                "process that ran it has ended, or still runs it; operation.result(...) records it with the commit"
            )
        if self.outcome[:1] == _ERROR:
            raise decode_error(session_pb2.Error.FromString(self.outcome[1:]))
        return CommandResult(method.result.decode_msgpack(self.outcome[1:]), is_replayed=True)


class OutcomeLog(Protocol):
    """Records the outcomes of commands: the operation log of a database."""

    async def find(self, operation_id: str) -> Recorded | None:
        """Return the record of what was committed under an id."""
        ...

    async def record_outcome(self, operation_id: str, outcome: bytes) -> None:
        """Record the outcome of a committed operation's command."""
        ...

    async def settle(self, operation_id: str) -> bool | None:
        """Find out whether an operation whose commit ended in doubt is committed; None: it cannot be found out."""
        ...


class DuplicateOperation(FusionError):
    """An operation of this id is committed already: this one is rolled back. Never leaves the library.

    Attributes:
        log: the log that has it.
    """

    is_memoized = False

    def __init__(self, message: str, log: OutcomeLog) -> None:
        super().__init__(message)
        self.log = log


def outcome_of(value: object) -> bytes:
    """Return the outcome of a command that returned.

    Raises:
        UsageError: the value is of a type that cannot leave the process.
    """
    return _VALUE + encode_msgpack(value)


def outcome_of_error(error: BaseException) -> bytes:
    """Return the outcome of a command that raised after its commit."""
    return _ERROR + encode_error(error, for_member=True).SerializeToString()
