"""One error for a database that is away, which drivers, the pool and the operating system report in many ways."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fusion_cluster.commands.reruns import is_passing
from fusion_cluster.errors import DatabaseUnavailable

RETRY_AFTER_S = 1.0


class reaching:  # noqa: N801 - used like a function
    """Turns errors of connecting into `DatabaseUnavailable`.

    It is not a `contextlib.contextmanager`: that writes into the exceptions that pass, and some cannot be written to.

    Raises:
        DatabaseUnavailable: in place of an error of the operating system or the pool, or of a connection that was lost
            at once.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError | PoolTimeoutError) or is_lost_while_set_up(error):
            message = f"the database cannot be reached: {error}"
            raise DatabaseUnavailable(message, retry_after_s=RETRY_AFTER_S) from error


class reading(reaching):  # noqa: N801 - used like a function
    """Turns errors of reading into `DatabaseUnavailable`: the connection was lost, or the read gave way to another.

    The same read may succeed later.

    Raises:
        DatabaseUnavailable: in place of such an error of the driver, too.
    """

    __slots__ = ()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, DBAPIError) and is_passing(error):
            message = f"the database has failed: {error.orig}"
            raise DatabaseUnavailable(message, retry_after_s=RETRY_AFTER_S) from error


def is_lost_while_set_up(error: BaseException | None) -> bool:
    """Whether a new connection was lost before it was ready: SQLAlchemy passes the driver's own error on then."""
    return type(error).__module__.startswith("asyncpg.") and "closed" in str(error)
