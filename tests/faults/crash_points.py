"""Points in the run of a command at which a process kills itself: armed in a process of a test, and nowhere else.

Each replaces, in this process, the very function of the library that stands there. The first command that comes by ends
the process with SIGKILL: nothing is closed, flushed or said. Or it stops the process, which goes on where it was when
somebody lets it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from typing import Any, Final

from fusion_cluster.commands.pipeline import _Run
from fusion_cluster.commands.scope import OperationScope
from fusion_cluster.database.operation_log import OperationLog
from fusion_cluster.database.transaction import OperationTransaction
from fusion_router.host import ClusterHost
from fusion_router.invalidation import Invalidations
from fusion_router.publications import Publications


class _Ending:
    """What happens at the point."""

    signal = signal.SIGKILL


def die() -> None:
    """As `kill -9` does it, or another signal."""
    os.kill(os.getpid(), _Ending.signal)


def before_the_transaction() -> None:
    _before(OperationScope, "_begin")


def rows_written() -> None:
    _before_call(OperationLog, "_insert")


def entry_written() -> None:
    _after(OperationLog, "write")


def in_the_commit() -> None:
    """The COMMIT is on its way to the database; what becomes of it, this process does not learn."""
    commit = OperationTransaction.commit

    async def send_and_die(transaction: OperationTransaction) -> None:
        committing = commit(transaction)  # kept: a coroutine that is dropped cleans up
        committing.send(None)
        die()

    _replace(OperationTransaction, "commit", send_and_die)


def in_a_write_of_the_commit() -> None:
    """In the middle of a write to SQLite's write-ahead log: the limit of a file's size ends the process."""
    commit = OperationTransaction.commit

    async def commit_to_a_full_file(transaction: OperationTransaction) -> None:
        path = str(transaction.connection.engine.url.database) + "-wal"
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        limit = os.stat(path).st_size + 5_000  # one page and a bit; the log is appended to
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        await commit(transaction)
        die()  # it has found room in the file: not where it was meant to end, but an end all the same

    _replace(OperationTransaction, "commit", commit_to_a_full_file)


def committed() -> None:
    _after(OperationTransaction, "commit")


def invalidated_here() -> None:
    _after_call(Invalidations, "apply")


def before_the_first_push() -> None:
    _before(Publications, "_tell")


def one_of_the_owners_told() -> None:
    tell: Any = Publications._tell
    told: list[int] = []

    async def tell_one_and_die(self: Publications, shard_id: int, *arguments: Any) -> None:
        told.append(shard_id)
        if len(told) > 1:
            await asyncio.Event().wait()
        await tell(self, shard_id, *arguments)
        die()

    _replace(Publications, "_tell", tell_one_and_die)


def before_the_outcome_is_recorded() -> None:
    _before(OperationLog, "record_outcome")


def in_the_replay() -> None:
    """An earlier run's result is found, and nobody has been told yet."""
    _before(_Run, "replay")


def before_it_applies_what_it_is_told() -> None:
    """As the owner of a key that another shard's command has changed."""
    _before_call(Invalidations, "apply_request")


def before_the_answer() -> None:
    _after(ClusterHost, "run")


POINTS: Final[dict[str, Callable[[], None]]] = {
    point.__name__.replace("_", " "): point
    for point in (
        before_the_transaction,
        rows_written,
        entry_written,
        in_the_commit,
        committed,
        invalidated_here,
        before_the_first_push,
        one_of_the_owners_told,
        before_the_answer,
    )
}
"""The points that each command with an operation comes by, in the order in which it does."""

OTHER_POINTS: Final[dict[str, Callable[[], None]]] = {
    point.__name__.replace("_", " "): point
    for point in (
        in_a_write_of_the_commit,
        before_the_outcome_is_recorded,
        in_the_replay,
        before_it_applies_what_it_is_told,
    )
}


def arm(point: str, *, stops: bool = False) -> None:
    """Let this process die at a point.

    Args:
        point: its name, of `POINTS` or `OTHER_POINTS`.
        stops: it does not die, it stops.
    """
    _Ending.signal = signal.SIGSTOP if stops else signal.SIGKILL
    (POINTS.get(point) or OTHER_POINTS[point])()


def _replace(owner: type, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


def _before(owner: type, name: str) -> None:
    function = getattr(owner, name)

    async def die_and_call(*arguments: Any, **options: Any) -> Any:
        _replace(owner, name, function)
        die()
        return await function(*arguments, **options)

    _replace(owner, name, die_and_call)


def _before_call(owner: type, name: str) -> None:
    function = getattr(owner, name)

    def die_and_call(*arguments: Any, **options: Any) -> Any:
        _replace(owner, name, function)
        die()
        return function(*arguments, **options)

    _replace(owner, name, die_and_call)


def _after(owner: type, name: str) -> None:
    function = getattr(owner, name)

    async def call_and_die(*arguments: Any, **options: Any) -> Any:
        _replace(owner, name, function)
        result = await function(*arguments, **options)
        die()
        return result

    _replace(owner, name, call_and_die)


def _after_call(owner: type, name: str) -> None:
    function = getattr(owner, name)

    def call_and_die(*arguments: Any, **options: Any) -> Any:
        _replace(owner, name, function)
        result = function(*arguments, **options)
        die()
        return result

    _replace(owner, name, call_and_die)
