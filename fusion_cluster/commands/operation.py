"""Operations: one transaction and the invalidations that belong to it, all or nothing.

A context variable holds the current operation, so that `service.method.invalidate(...)` finds it: in the block itself
and in the tasks started there, for as long as the operation is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from fusion_cluster.commands.context import Publisher, is_computing, is_nested, running_command, unhurt
from fusion_cluster.commands.emitted_event import EmittedEvent, emitted
from fusion_cluster.commands.operation_states import OPERATION, OperationEvent, OperationState
from fusion_cluster.commands.outcomes import LoggedKey, outcome_of
from fusion_cluster.errors import InvariantViolation, UsageError
from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.runtime import SYSTEM, Entropy
from fusion_cluster.runtime.baggage import NO_BAGGAGE, Carrier, of_an_event
from fusion_cluster.transitions import next_state

T = TypeVar("T")


class Operation:
    """One transaction, given by `database.operation()`.

    Attributes:
        id: unique: the id of its command, if it is a part of one. A savepoint in another operation has the id of that
            one.
        command: the run of a command that it is a part of, or None.
        session: the SQLAlchemy session to read and write with.
        state: its state.
        surrounding: the operation in whose block it was opened, or None.
        task: the task that opened it.
        outcome: the command's outcome, if `result` was given it; recorded with the commit.
        is_logged: its entry is written in its transaction.
        is_commands_own: it was opened by its command itself, not by a command that this one has called.
    """

    def __init__(
        self, session: AsyncSession, *, savepoint_in: Operation | None = None, entropy: Entropy = SYSTEM.entropy
    ) -> None:
        self._entropy = entropy
        self.command = running_command()
        if savepoint_in is not None:
            self.id: str = savepoint_in.id
        else:
            self.id = self.command.command_id if self.command is not None else entropy.new_id()
        self.session = session
        self.state = OperationState.OPEN
        self.surrounding = running_operation()
        self.task = asyncio.current_task()
        # Publisher -> the keys to invalidate with the commit, in order of recording, each once, with its first cause.
        self._recorded: dict[Publisher, dict[Key, Cause]] = {}
        # The keys among them that tasks recorded while its entry in the log was written, so that they are not in it.
        self._late: dict[Publisher, dict[Key, Cause]] = {}
        self._emitted: list[EmittedEvent] = []
        self._is_sealed = False
        self.is_commands_own = self.command is not None and not is_nested.get()
        self.outcome: bytes | None = None
        self.is_logged = False

    @property
    def invalidations(self) -> tuple[Key, ...]:
        """The keys recorded so far."""
        return tuple(key for keys in self._recorded.values() for key in keys)

    @property
    def is_open(self) -> bool:
        """Whether invalidations can be recorded with it."""
        return self.state in (OperationState.OPEN, OperationState.COMMITTING)

    def move(self, event: OperationEvent) -> None:
        """Take a step towards its end.

        Raises:
            InvariantViolation: the table does not allow it now.
        """
        self.state = next_state(OPERATION, event, self.state, InvariantViolation)

    def invalidate(self, key: Key, cause: Cause, publisher: Publisher) -> None:
        """Record an invalidation; `publisher` makes it when the operation has been committed.

        Raises:
            UsageError: the operation has ended.
        """
        if not self.is_open:
            raise UsageError(f"the operation has been {self.state.value}")
        self._recorded.setdefault(publisher, {}).setdefault(key, cause)
        if self._is_sealed:
            self._late.setdefault(publisher, {})[key] = cause

    def emit(self, event: object, *, key: object = None, delay_s: float = 0.0) -> None:
        """Emit an event: the handlers of its class are called with it after the commit, at least once.

        It is written in the transaction, in its present state, so it is emitted if and only if the transaction is
        committed. It carries the baggage of this context to its handlers: the trace, and the principal, for whom the
        handlers run. Events of equal keys are delivered in the order of the commits, each after the previous one has
        been handled or given up.

        Args:
            event: an instance of a dataclass, a msgspec Struct or a pydantic model; the name of its class names it.
            key: its subject, any value that can be encoded. By default, the name and the value of its first field.
            delay_s: how long after the commit it is delivered, at the earliest. Later events of its key do not wait
                for it until then.

        Raises:
            UsageError: it is not such an instance, it or its key cannot be encoded, the key is too long, the delay is
                negative, the operation has ended, or the principal is not text or JSON data.
            InvalidArgument: there is too much baggage.
        """
        if self.state is not OperationState.OPEN or self._is_sealed:
            raise UsageError("events are emitted in the block of an operation, before it commits")
        hosting = self.command.hosting if self.command is not None else None
        baggage = of_an_event(hosting.carried() if isinstance(hosting, Carrier) else NO_BAGGAGE)
        self._emitted.append(emitted(event, key, delay_s, baggage=baggage, entropy=self._entropy))

    @property
    def events(self) -> tuple[EmittedEvent, ...]:
        """The events emitted so far."""
        return tuple(self._emitted)

    def seal(self) -> None:
        """Refuse further events and results, because the present ones are being written."""
        self._is_sealed = True

    def hand_over_events(self, other: Operation) -> None:
        """Pass the events and the result to another operation, whose transaction this one shares."""
        other._emitted += self._emitted
        self._emitted.clear()
        other.outcome = self.outcome or other.outcome

    def result(self, value: T) -> T:
        """Record the command's result with the commit: `return operation.result(row.id)`.

        A retry of the command under the same id gets it, whatever happens after the commit. This is automatic for a
        `return` in the block, for a `return` right after it that calls nothing, and for a command that is declared to
        return None. Any other result is recorded when the command has returned. It is lost if the process ends in
        between, and a retry then raises `CommandResultLost`: the warning `UnrecordedResult` reports that when the
        command runs. In a command that another command has called it records nothing, because only the other one is
        retried.

        Raises:
            UsageError: the operation has ended, does not belong to a command, or the value cannot leave the process.
        """
        if self.state is not OperationState.OPEN or self._is_sealed:
            raise UsageError("a result is recorded in the block of an operation, before it commits")
        if self.command is None:
            raise UsageError("only a command has a result to record")
        if self.is_commands_own:
            self.outcome = outcome_of(value)
        return value

    @property
    def logged_keys(self) -> list[LoggedKey]:
        """Return the keys recorded so far, in the form of the operation log."""
        return [logged for publisher, keys in self._recorded.items() for logged in publisher.logged_keys(keys)]

    @property
    def late_keys(self) -> list[LoggedKey]:
        """Return the keys that were recorded after its entry in the operation log was written."""
        return [logged for publisher, keys in self._late.items() for logged in publisher.logged_keys(keys)]

    @property
    def peer_id(self) -> str:
        """The name of its process in the operation log."""
        if self.command is not None:
            return self.command.peer_id
        return next((publisher.peer_id for publisher in self._recorded), "")

    def hand_over(self, other: Operation) -> None:
        """Pass the recorded invalidations to another operation, whose transaction this one shares."""
        for publisher, keys in self._recorded.items():
            for key, cause in keys.items():
                other.invalidate(key, cause, publisher)
        self._recorded.clear()

    def publish(self, *, is_certain: bool = True) -> list[Awaitable[None]]:
        """Publish the recorded invalidations: the publications have begun when this returns.

        A command waits for them before it returns. Outside a command, or when it has returned, the caller gets the
        publications to wait for.

        Args:
            is_certain: the operation is committed. If it may not be, it must not be noted as applied: the same id may
                still be committed.
        """
        command = self.command if self.command is not None and self.command.is_open else None
        barrier = command.barrier if command is not None else True
        publications: list[Awaitable[None]] = []
        failure: Exception | None = None
        for publisher, keys in self._recorded.items():
            try:
                publications.append(unhurt(publisher.publish(keys, barrier, self.id if is_certain else "")))
            except Exception as error:  # a publisher that fails does not stop the others
                failure = error if failure is None else failure
        self._recorded.clear()
        if command is not None:
            for publication in publications:
                command.add(publication)
        if failure is not None:
            raise failure
        return publications if command is None else []


current_operation: Final[ContextVar[Operation | None]] = ContextVar("fusion_cluster_current_operation", default=None)
"""The innermost operation whose block was entered in this context; look at it through `running_operation`."""


def running_operation() -> Operation | None:
    """Return the innermost open operation that the caller is a part of, if any."""
    operation = current_operation.get()
    while operation is not None and not operation.is_open:
        operation = operation.surrounding
    return operation if operation is not None and not is_computing() else None


def record_invalidation(key: Key, cause: Cause, publisher: Publisher) -> bool:
    """Record an invalidation with the operation that the caller is a part of; return False if there is none.

    Args:
        key: the key to invalidate with the commit.
        cause: why.
        publisher: makes the invalidation after the commit.
    """
    operation = running_operation()
    if operation is None:
        return False
    operation.invalidate(key, cause, publisher)
    return True
