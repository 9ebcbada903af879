"""A database that is away says so in many ways, by its driver, the pool or the operating system: here, by one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fusion_cluster.commands.reruns import is_passing
from fusion_cluster.errors import DatabaseUnavailable

RETRY_AFTER_S = 1.0


@contextmanager
def reaching() -> Iterator[None]:
    """Connecting: what cannot be reached is unavailable.

    Raises:
        DatabaseUnavailable: in place of an error of the operating system or the pool.
    """
    try:
        yield
    except (OSError, PoolTimeoutError) as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error}", retry_after_s=RETRY_AFTER_S) from error


@contextmanager
def reading() -> Iterator[None]:
    """Reading: what was lost, or gave up for another's sake, is unavailable, too; the same read may go through later.

    Raises:
        DatabaseUnavailable: in place of such an error of the driver, too.
    """
    try:
        with reaching():
            yield
    except DBAPIError as error:
        if not is_passing(error):
            raise
        raise DatabaseUnavailable(f"the database has failed: {error.orig}", retry_after_s=RETRY_AFTER_S) from error
