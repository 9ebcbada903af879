"""Runs a command again when the database gave up its transaction in favour of another, was busy, or was lost.

Only an error from the database itself is a reason, and only as long as nothing is committed. The pauses grow, with full
jitter (M. Brooker, "Exponential Backoff And Jitter", AWS 2015), so that commands that collided do not collide again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, OperationalError

from fusion_cluster.errors import DatabaseNotWritable, DatabaseUnavailable, FusionError
from fusion_cluster.runtime import SYSTEM, Runtime

logger = logging.getLogger(__name__)

MAX_RUNS: Final = 12
LONGEST_S: Final = 10.0
"""How long after the first failure a command is run again, at most."""

FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0

_NOT_WRITABLE_SQLITE: Final = (
    *("SQLITE_READONLY", "SQLITE_FULL", "SQLITE_CANTOPEN"),
    # A quota, or a full disk if it is not distinguished from other failures.
    *("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"),
)
_NOT_WRITABLE_STATES: Final = ("25006", "53100")
"""PostgreSQL: read_only_sql_transaction, disk_full."""

_PASSING_SQLITE: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
_PASSING_STATES: Final = ("08", "40", "53", "57P", "55P03")
"""PostgreSQL: connection, rolled back in favour of another transaction, resources, shutdown, lock not available."""

_LOST_IN_BETWEEN: Final = "InternalClientError"
"""asyncpg: the server's last message on a connection was read, and its end is not known yet."""


class Reruns:
    """The failures of one command, and whether it is run again after them.

    Args:
        name: the name of the command.
        runtime: gives the clock and the jitter.
        jitter: gives a number from 0 to its argument, in place of the runtime.
    """

    def __init__(self, name: str, *, runtime: Runtime = SYSTEM, jitter: Callable[[float], float] | None = None) -> None:
        self._name = name
        self._jitter = jitter or (lambda longest_s: runtime.entropy.uniform(0, longest_s))
        self._clock = runtime.clock.monotonic
        self._count = 0
        self._began_s: float | None = None

    async def pause_after(self, error: Exception) -> None:
        """Wait until the command is to run again.

        Raises:
            Exception: it must not run again: the error, or one that says more about it.
        """
        if not is_of_database(error):
            raise error
        if is_not_writable(error):
            raise DatabaseNotWritable(f"the database cannot be written: {_reason(error)}") from error
        if not is_passing(error):
            raise error
        now_s = self._clock()
        self._count += 1
        if self._began_s is None:
            self._began_s = now_s
        if self._count >= MAX_RUNS or now_s - self._began_s > LONGEST_S:
            raise DatabaseUnavailable(
                f"{self._name}: the database has failed {self._count} times, last: {_reason(error)}", retry_after_s=1.0
            ) from error
        pause_s = self._jitter(min(FIRST_PAUSE_S * 2**self._count, LONGEST_PAUSE_S))
        logger.info("%s is run again in %.0f ms: %s", self._name, 1000 * pause_s, _reason(error))
        await asyncio.sleep(pause_s)


def is_of_database(error: Exception) -> bool:
    """Whether a database failed, or was away."""
    return issubclass(type(error), DBAPIError | DatabaseUnavailable)  # `__class__` of other errors may raise


def is_not_writable(error: Exception) -> bool:
    """Whether the database refuses to write at all."""
    name, state = _codes(error)
    return name.startswith(_NOT_WRITABLE_SQLITE) or state in _NOT_WRITABLE_STATES


def is_passing(error: Exception) -> bool:
    """Whether the same transaction may succeed next time: it failed because of others, or of the connection.

    The class of an error does not decide that: drivers use one class for a lock and a missing table, or for a lost
    connection and an argument of the wrong type.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, DatabaseUnavailable)
    if error.connection_invalidated:
        return True
    name, state = _codes(error)
    if name or state:
        return name.startswith(_PASSING_SQLITE) or state.startswith(_PASSING_STATES)
    cause = _cause(error)
    return isinstance(error, OperationalError) or isinstance(cause, OSError) or type(cause).__name__ == _LOST_IN_BETWEEN


def _codes(error: Exception) -> tuple[str, str]:
    """Return the database's own codes of an error: a name from SQLite, a state from PostgreSQL; "" if there is none."""
    cause = _cause(error)
    name = getattr(cause, "sqlite_errorname", None)
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return name or "", state or ""


def _cause(error: Exception) -> Any:
    """Return the driver's own error."""
    original: Any = getattr(error, "orig", None)
    return getattr(original, "__cause__", None) or original


def _reason(error: Exception) -> str:
    if isinstance(error, FusionError):
        return error.message
    original = getattr(error, "orig", None)
    return str(original if original is not None else error)
