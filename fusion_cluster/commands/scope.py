"""The block of `async with database.operation()`: the begin and end of an operation.

Invariants: an operation's invalidations are published if, and as soon as, its rows are committed: the publication
begins in the same turn of the event loop in which the commit is known, also if the caller has left meanwhile. Its entry
in the operation log is written in the same transaction, so that others learn of it even if this process ends in that
turn. When a commit fails and may still have taken effect (its connection was lost), the log is asked whether it did; if
it cannot answer, the invalidations are published: an extra invalidation does no harm. If the block has ended the
transaction by itself in spite of all checks, that cannot be undone: the command fails, and its recorded invalidations
are published and logged. Once the block has been left, in any way, the transaction has ended.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, suppress
from types import FrameType, TracebackType
from typing import Final

from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError, ResourceClosedError, StatementError
from sqlalchemy.ext.asyncio import AsyncSessionTransaction

from fusion_cluster.commands.completion import complete
from fusion_cluster.commands.context import CommandContext, is_computing, running_command
from fusion_cluster.commands.operation import (
    Operation,
    current_operation,
    running_operation,
)
from fusion_cluster.commands.operation_states import OperationEvent, OperationState
from fusion_cluster.commands.outcomes import outcome_of
from fusion_cluster.commands.returning import returns_next, warn_of_unrecorded_result
from fusion_cluster.commands.transactions import (
    IN_PART,
    OperationalDatabase,
    Transaction,
    TransactionEnded,
    Transactions,
)
from fusion_cluster.errors import CommandOutcomeUnknown, UsageError
from fusion_cluster.runtime import Entropy

logger = logging.getLogger(__name__)

_NO_SAVEPOINT: Final = "3B001"
_FAILED_BEFORE: Final = "25P02"
"""PostgreSQL: there is no such savepoint; a statement of the transaction has failed before."""


class OperationScope(AbstractAsyncContextManager[Operation]):
    """Opens an operation and ends it: commits it, or rolls it back when an exception leaves the block.

    In the block of another operation on the same database it shares the transaction of that operation, as a savepoint
    in it.

    Args:
        database: the database.
    """

    def __init__(self, database: OperationalDatabase) -> None:
        self._database = database
        self._transactions = database.transactions()
        self._command: CommandContext | None = None
        self._savepoint: AsyncSessionTransaction | None = None
        self._outer: OpenOperation | None = None
        self._publications: list[Awaitable[None]] = []

    async def __aenter__(self) -> Operation:
        if is_computing():
            raise UsageError("a compute method cannot change data: open the operation in a command")
        outer = self._outer = _shared(self._transactions)
        if outer is None:
            self._enter()
            try:
                self._operation = OpenOperation(
                    await self._begin(), self._transactions, entropy=self._database.runtime.entropy
                )
            except BaseException:
                self._leave()
                raise
        else:
            if outer.task is not asyncio.current_task():
                raise UsageError(
                    "an operation's transaction belongs to the task that opened it: open another outside its block"
                )
            self._savepoint = await outer.session.begin_nested()
            self._operation = OpenOperation(
                outer.transaction, self._transactions, savepoint_in=outer, entropy=self._database.runtime.entropy
            )
        self._previous = current_operation.get()
        current_operation.set(self._operation)
        return self._operation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current_operation.set(self._previous)
        if self._outer is not None:
            await (self._release(self._outer) if error is None else self._roll_back_to_savepoint(self._outer))
        elif error is not None or not await self._waits_for_result(sys._getframe(1)):
            await self.end(error)

    async def end_with(self, result: object) -> None:
        """Commit with the result that the command has given right after the block."""
        with suppress(UsageError):  # it cannot leave the process: the runner of the command reports that
            self._operation.outcome = outcome_of(result)
        await self.end()

    async def end(self, error: BaseException | None = None) -> None:
        """Commit, or roll back if there is an error."""
        ended = self._ended_before(error)
        try:
            await (self._commit() if error is None else self._roll_back())
        finally:
            self._transactions.writers.release()
            if self._operation.state is not OperationState.COMMITTED:
                self._leave()
            if self._operation.transaction.may_be_committed:
                await self._publish_what_was_ended()
        if ended is not None:
            raise ended from error
        if isinstance(error, Exception) and self._operation.transaction.may_be_committed:
            self._raise_ended(error)
        if late := self._operation.late_keys:
            await complete(_quietly(self._database.log.write_keys(self._operation, late)))
        for publication in self._publications:
            await publication

    async def _waits_for_result(self, frame: FrameType) -> bool:
        """Make the commit wait for the command's result if that comes next; warn if the result may be lost.

        The pending writes of the block are made before, because the result may depend on values from the database.

        Args:
            frame: the frame that awaits the end of the block.

        Returns:
            Whether it waits.
        """
        command, operation = self._command, self._operation
        if command is None or command.outcome is not None or operation.outcome is not None or not command.function:
            return False
        is_its_body = operation.is_commands_own and frame.f_code is command.function.__code__
        is_next = is_its_body and operation.task is asyncio.current_task() and returns_next(frame)
        try:
            if is_next:
                operation.transaction.check()
                await operation.session.flush()
                command.waiting = self
            else:
                warn_of_unrecorded_result(command.name, command.function, frame)
        except BaseException as error:
            await self.end(error)
            if isinstance(error, Exception):
                self._note(error)
            raise
        return is_next

    # -- a transaction of its own --------------------------------------------------------------------------------------
    def _enter(self) -> None:
        """Register as the one operation of the command: a retry could not tell which of several had been committed.

        Raises:
            UsageError: there is, or was, another operation.
        """
        self._command = running_command()
        if self._command is None:
            return
        operations = self._command.operations
        if self._database.log in operations:
            has = (
                "has committed an operation" if self._database.log in self._command.committed else "is in an operation"
            )
            raise UsageError(
                f"{self._command.name} {has} already, and a second one would not be atomic with it: "
                "open one operation around both, also where other commands are called"
            )
        operations.add(self._database.log)
        self._command.logs.add(self._database.log)

    def _leave(self) -> None:
        """Note that nothing was committed: the command may open another operation."""
        if self._command is not None:
            self._command.operations.discard(self._database.log)

    async def _begin(self) -> Transaction:
        await self._database.prepare()
        await self._transactions.acquire_writer()
        try:
            return await self._transactions.begin()
        except BaseException:
            self._transactions.writers.release()
            raise

    async def _commit(self) -> None:
        operation = self._operation
        try:
            operation.transaction.check()
            await self._database.log.write(operation)
            if operation.events:
                await self._database.events.write(operation)
        except BaseException as error:
            await self._roll_back()
            if isinstance(error, Exception):
                self._note(error)
            raise
        operation.move(OperationEvent.COMMIT)
        # From here on the caller's cancellation waits until the outcome is known.
        if self._command is not None:
            self._command.limit.lift()
        self._publications = await complete(self._commit_and_publish())

    async def _commit_and_publish(self) -> list[Awaitable[None]]:
        operation = self._operation
        try:
            await operation.transaction.commit()
        except TransactionEnded:
            operation.move(OperationEvent.ROLL_BACK)
            raise
        except BaseException as error:
            is_committed = await self._settled(error)
            if is_committed is False:
                operation.move(OperationEvent.ROLL_BACK)
                raise
            if is_committed is None and operation.command is not None:
                operation.command.is_in_doubt = True
            publications = self._publish(is_certain=is_committed is not None)
            if is_committed is None:
                raise CommandOutcomeUnknown("the connection to the database was lost during the commit") from error
            return publications
        else:
            return self._publish()
        finally:
            await _quietly(operation.transaction.close())

    def _publish(self, *, is_certain: bool = True) -> list[Awaitable[None]]:
        operation = self._operation
        operation.move(OperationEvent.TAKE_EFFECT)
        command = operation.command
        if command is not None:
            command.outcome = command.outcome if operation.outcome is None else operation.outcome
            command.committed[self._database.log] = command.outcome
        try:
            return operation.publish(is_certain=is_certain)
        finally:
            self._database.log.on_committed(operation)
            if operation.events:
                self._database.events.on_committed()

    async def _settled(self, error: BaseException) -> bool | None:
        """Find out whether a commit that ended with an error took effect; None: it cannot be found out."""
        if not _is_in_doubt(error):
            return False
        if not isinstance(error, Exception):  # the loop is shutting down
            return None
        await _quietly(self._operation.transaction.close())
        if not self._operation.is_logged:
            return None
        logger.warning("a commit has failed (%s); asking the operation log whether it took effect", error)
        return await self._database.log.settle(self._operation.id)

    async def _roll_back(self) -> None:
        self._operation.move(OperationEvent.ROLL_BACK)
        await complete(_quietly(self._operation.transaction.close()))  # it rolls back

    async def _publish_what_was_ended(self) -> None:
        """Publish all invalidations, because it is not known what the block has committed: extra ones do no harm."""
        keys = self._operation.logged_keys
        publications = self._operation.publish(is_certain=False)
        if keys:
            await complete(_quietly(self._database.log.write_keys(self._operation, keys)))
        for publication in publications:
            await _quietly(publication)

    def _ended_before(self, error: BaseException | None) -> TransactionEnded | None:
        """Return the error to raise in place of SQLAlchemy's report that its transaction or connection is gone."""
        is_of_session = isinstance(error, PendingRollbackError | ResourceClosedError)
        is_of_connection = isinstance(error, StatementError) and isinstance(error.orig, AssertionError)
        if is_of_session or is_of_connection:
            try:
                self._operation.transaction.check()
            except TransactionEnded as ended:
                return ended
        return None

    def _raise_ended(self, error: Exception) -> None:
        if isinstance(error, TransactionEnded):
            return
        try:
            self._operation.transaction.check()
        except TransactionEnded as ended:
            raise ended from error

    # -- a savepoint in another's --------------------------------------------------------------------------------------
    async def _release(self, outer: Operation) -> None:
        assert self._savepoint is not None
        self._operation.move(OperationEvent.COMMIT)
        try:
            self._operation.transaction.check()
            await self._savepoint.commit()
            self._operation.hand_over_events(outer)
        except Exception as error:
            self._note(error)
            raise
        finally:
            # Also when that failed: then the outer operation will most likely fail too; if not, it may commit our rows.
            self._operation.hand_over(outer)
            self._operation.move(OperationEvent.TAKE_EFFECT)

    async def _roll_back_to_savepoint(self, outer: Operation) -> None:
        assert self._savepoint is not None
        self._operation.move(OperationEvent.ROLL_BACK)
        try:
            await self._savepoint.rollback()
        except Exception as error:
            logger.warning("a savepoint could not be rolled back", exc_info=True)
            self._operation.hand_over(outer)  # it may be committed
            with suppress(TransactionEnded):
                self._note(error)

    def _note(self, error: Exception) -> None:
        """Note that an operation cannot end as it should.

        Raises:
            TransactionEnded: something has failed or was ended in its block, and was not reported yet.
        """
        state = ""
        if isinstance(error, DBAPIError):
            is_unknown = "no such savepoint" in str(error.orig)
            state = _NO_SAVEPOINT if is_unknown else getattr(error.orig, "sqlstate", None) or ""
        if state == _NO_SAVEPOINT:
            self._operation.transaction.note_lost()
            self._operation.transaction.check()
        if state == _FAILED_BEFORE or isinstance(error, InvalidRequestError):
            raise TransactionEnded(
                "the operation cannot be committed, for in its block a flush or a statement has failed before, or its "
                f"savepoint or transaction was ended: {error}. {IN_PART}"
            ) from error


class OpenOperation(Operation):
    """An operation that knows its transaction and its database."""

    def __init__(
        self,
        transaction: Transaction,
        transactions: Transactions,
        *,
        savepoint_in: Operation | None = None,
        entropy: Entropy,
    ) -> None:
        super().__init__(transaction.session, savepoint_in=savepoint_in, entropy=entropy)
        self.transaction = transaction
        self.transactions = transactions


def _shared(transactions: Transactions) -> OpenOperation | None:
    """Return the open operation on the same database that the caller is a part of, if any."""
    operation = running_operation()
    while operation is not None:
        if operation.is_open and isinstance(operation, OpenOperation) and operation.transactions is transactions:
            return operation
        operation = operation.surrounding
    return None


def _is_in_doubt(error: BaseException) -> bool:
    """Whether the database may have committed although the commit ended with this error: it has not answered."""
    return not isinstance(error, DBAPIError) or error.connection_invalidated


async def _quietly(ending: Awaitable[None]) -> None:
    """Await the end of a transaction whose outcome is decided; an error is only logged."""
    try:
        await ending
    except Exception:
        logger.warning("a transaction did not end well", exc_info=True)
