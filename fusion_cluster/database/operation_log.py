"""The operation log: the committed operations, their commands, and the keys that they invalidate.

An entry is written in the transaction of its operation, so it exists if and only if the operation is committed. Each
process that holds computeds follows the log (`log_follower`); commands are looked up in it, so that no command runs
twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session

from fusion_cluster.commands.completion import complete
from fusion_cluster.commands.context import CommandContext
from fusion_cluster.commands.operation import Operation
from fusion_cluster.commands.outcomes import DuplicateOperation, LoggedKey, Recorded
from fusion_cluster.database.availability import reaching
from fusion_cluster.database.driver_statements import DirectInsert
from fusion_cluster.database.schema import COMMANDS, MAX_ID_CHARACTERS, OPERATIONS
from fusion_cluster.database.transaction_watch import TransactionWatch, marked, watch_of
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.quantities import as_finite_timeout, as_timeout
from fusion_cluster.runtime import Runtime

if TYPE_CHECKING:
    from fusion_cluster.database.engines import Engines

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How the operation log is followed and kept.

    Attributes:
        period_s: how often it is read if there is no wake.
        retention_s: how long entries stay in the log; longer than any command takes. A host that has not read it for
            longer marks everything that it has as out of date.
        command_retention_s: for how long a command's id is known: a retry after that is a new command.
        trim_period_s: how often older entries are removed.
        follows: whether hosts read the log at all. If not, the commits of a process right before its death stay unknown
            to the others.

    Raises:
        InvalidArgument: a time is not a number above 0; `field` names it.
    """

    period_s: float = 1.0
    retention_s: float = 3600.0
    command_retention_s: float = 7 * 86_400.0
    trim_period_s: float = 60.0
    follows: bool = True

    def __post_init__(self) -> None:
        for name in ("period_s", "trim_period_s"):
            object.__setattr__(self, name, as_finite_timeout(name, getattr(self, name)))
        for name in ("retention_s", "command_retention_s"):
            object.__setattr__(self, name, as_timeout(name, getattr(self, name)))


SETTLE_S = 10.0
"""How long to ask for the fate of a commit in doubt: about as long as a database server takes to come back."""

SETTLE_PAUSE_S: Final = 0.25
"""The pause between two attempts."""

_ENTRY: Final = ("operation_id", "command", "fingerprint", "outcome", "host", "committed_at", "keys")
_RECORD: Final = tuple(
    update(table).where(column == bindparam("id_")).values(outcome=bindparam("outcome_"))
    for table, column in ((OPERATIONS, OPERATIONS.c.operation_id), (COMMANDS, COMMANDS.c.command_id))
)
_ENCODER: Final = msgspec.msgpack.Encoder()
_KEYS: Final = msgspec.msgpack.Decoder(tuple[LoggedKey, ...])


def decode_keys(encoded: bytes) -> tuple[LoggedKey, ...]:
    """Decode the keys of an entry."""
    return _KEYS.decode(encoded)


class OperationLog:
    """The operation log of one database (a `commands.command_log.CommandLog`).

    Args:
        engines: gives the engines of the event loop that runs.
        prepare: makes the tables if they do not exist yet.
        options: how the log is followed and kept.
    """

    def __init__(
        self,
        engines: Callable[[], Engines],
        prepare: Callable[[], Any],
        options: LogOptions,
        *,
        runtime: Callable[[], Runtime],
    ) -> None:
        self._engines = engines
        self._runtime = runtime
        self._prepare = prepare
        self.options = options
        self._insertion = DirectInsert(OPERATIONS, _ENTRY)
        self._marked_insertion = DirectInsert(OPERATIONS, _ENTRY, marked())
        # Called after each commit that was logged here: the followers of this process.
        self.on_logged: list[Callable[[Operation], None]] = []

    async def write(self, operation: Operation) -> None:
        """Flush and seal an operation and write its entry, in its transaction, if it needs one.

        Raises:
            DuplicateOperation: an operation of that id is committed already.
            TransactionEnded: its transaction has ended already.
        """
        await operation.session.run_sync(self._flush_and_write, operation)

    async def write_keys(self, operation: Operation, keys: list[LoggedKey]) -> None:
        """Write a further entry for keys that a committed operation invalidates and that are not in its entry."""

        async def write(connection: AsyncConnection) -> None:
            await self._write(
                connection,
                operation_id=self._runtime().entropy.new_id(),
                command=None,
                fingerprint=None,
                outcome=None,
                host=operation.peer_id,
                keys=keys,
            )

        await self.in_transaction(write)
        self.on_committed(operation)

    async def write_command(self, context: CommandContext, outcome: bytes) -> None:
        """Record a command that had no operation, in a transaction of its own."""
        await self._prepare()

        async def record(connection: AsyncConnection) -> None:
            await self._write(
                connection,
                operation_id=context.command_id,
                command=context.name,
                fingerprint=context.fingerprint,
                outcome=outcome,
                host=context.peer_id,
                keys=[],
            )

        await self.in_transaction(record)

    async def find(self, operation_id: str) -> Recorded | None:
        """Return the record of what was committed under an id, as long as it is remembered.

        Raises:
            InvalidArgument: the id cannot be stored.
            DatabaseUnavailable: the database cannot be reached.
        """
        if len(operation_id) > MAX_ID_CHARACTERS or not _is_text(operation_id):
            raise InvalidArgument(
                f"a command id is a text of {MAX_ID_CHARACTERS} characters at most, without NUL", field="command_id"
            )
        await self._prepare()
        found = await self._engines().look_ups.find(operation_id)
        if found is None:
            return None
        _, fingerprint, outcome, keys, host, committed_at = found
        return Recorded(operation_id, fingerprint, outcome, decode_keys(keys), host, committed_at)

    async def record_outcome(self, operation_id: str, outcome: bytes) -> None:
        """Record the outcome of a committed operation's command."""

        async def record(connection: AsyncConnection) -> None:
            for statement in _RECORD:
                done = await connection.execute(statement, {"id_": operation_id, "outcome_": outcome})
                if done.rowcount:
                    return

        await self.in_transaction(record)

    async def in_transaction(self, write: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """Run `write` in a transaction without an operation; a cancellation waits until it has ended.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or too many operations are open for too long.
        """
        engines = self._engines()

        async def run() -> T:
            connection = engines.writing.connect()
            with reaching():
                await connection.start()
            try:
                async with connection.begin():
                    return await write(connection)
            finally:
                await connection.close()

        await engines.acquire_writer()
        try:
            return await complete(run())
        finally:
            engines.writers.release()

    async def settle(self, operation_id: str) -> bool | None:
        """Find out whether a commit whose connection was lost took effect, and wait until that is decided.

        Its entry is written once more, in a transaction that is rolled back. If the first transaction still runs, the
        database makes this one wait for it; if the first one was committed, the database refuses the entry.

        Returns:
            None if the database does not answer in time.
        """
        try:
            async with asyncio.timeout(SETTLE_S):
                while True:
                    try:
                        await self._try_to_write(operation_id)
                    except DuplicateOperation:
                        return True
                    except Exception as error:  # any error: the next attempt may succeed
                        logger.info("the fate of operation %s is not known yet: %s", operation_id, error)
                    else:
                        return False
                    await asyncio.sleep(SETTLE_PAUSE_S)
        except TimeoutError:
            return None

    async def _try_to_write(self, operation_id: str) -> None:
        async with self._engines().writing.connect() as connection:
            await connection.begin()
            if connection.dialect.name == "postgresql":
                await connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            await self._write(
                connection,
                operation_id=operation_id,
                command=None,
                fingerprint=None,
                outcome=None,
                host="",
                keys=[],
            )
            await connection.rollback()

    def on_committed(self, operation: Operation) -> None:
        """Notify the followers of this process, which wake the others."""
        for on_logged in tuple(self.on_logged):
            try:
                on_logged(operation)
            except Exception:  # the follower reads the log later by itself
                logger.exception("a follower of the operation log could not be notified of a commit")

    def _flush_and_write(self, session: Session, operation: Operation) -> None:
        Session.commit(session)  # it flushes, and ends nothing: the connection was in its transaction before
        operation.seal()
        keys, command = operation.logged_keys, operation.command
        if command is None and not keys and not operation.events:
            return
        outcome = operation.outcome
        if outcome is None and command is not None:
            outcome = command.outcome
        entry = _entry(
            operation_id=operation.id,
            command=command.name if command is not None else None,
            fingerprint=command.fingerprint if command is not None else None,
            outcome=outcome,
            host=operation.peer_id,
            keys=keys,
            committed_at=self._runtime().clock.wall(),
        )
        connection = session.connection()
        self._insert(connection, entry, watch_of(connection))
        operation.is_logged = True

    async def _write(self, connection: AsyncConnection, **values: Any) -> None:
        await connection.run_sync(self._insert, _entry(**values, committed_at=self._runtime().clock.wall()))

    def _insert(self, connection: Connection, entry: Sequence[Any], watch: TransactionWatch | None = None) -> None:
        is_marked = watch is not None and connection.dialect.name == "postgresql"
        try:
            if watch is None or not is_marked:
                self._insertion.execute(connection, entry)
            elif not self._marked_insertion.execute(connection, (*entry, watch.mark)):
                raise watch.note_lost()
            else:
                watch.is_mark_seen = True
        except IntegrityError as error:
            raise DuplicateOperation(f"an operation with the id {entry[0]!r} is committed already", self) from error


def _entry(
    *,
    operation_id: str,
    command: str | None,
    fingerprint: bytes | None,
    outcome: bytes | None,
    host: str,
    keys: Sequence[LoggedKey],
    committed_at: float,
) -> Sequence[Any]:
    """Return the values of the columns `_ENTRY`."""
    return operation_id, command, fingerprint, outcome, host, committed_at, _ENCODER.encode(keys)


def _is_text(operation_id: str) -> bool:
    try:
        return b"\0" not in operation_id.encode()
    except UnicodeEncodeError:
        return False
