"""Which errors of a database pass, so that the same transaction may go through next time: its own words tell."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, ProgrammingError

from fusion_cluster.commands.reruns import is_passing
from fusion_cluster.errors import DatabaseUnavailable

asyncpg = pytest.importorskip("asyncpg")


def of_sqlite(name: str) -> DBAPIError:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorname = name
    return OperationalError("", None, error)


class OfPostgreSQL(Exception):
    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.sqlstate = state


def of_postgresql(state: str) -> DBAPIError:
    return DBAPIError("", None, OfPostgreSQL(state))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *((of_sqlite(name), True) for name in ("SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED_SHAREDCACHE")),
        *((of_sqlite(name), False) for name in ("SQLITE_ERROR", "SQLITE_FULL", "SQLITE_CORRUPT", "SQLITE_READONLY")),
        *((of_postgresql(state), True) for state in ("40001", "40P01", "08006", "53300", "57P01", "57P03", "55P03")),
        *((of_postgresql(state), False) for state in ("42P01", "23505", "22001", "25006", "57014", "0A000", "55000")),
        (OperationalError("", None, ConnectionRefusedError("another driver cannot connect")), True),
        (OperationalError("", None, Exception("another driver says nothing more")), True),
        (DBAPIError("", None, Exception("closed"), connection_invalidated=True), True),
        (
            InternalError("", None, asyncpg.InternalClientError("cannot switch to state 12; another operation (2)")),
            True,
        ),
        (InterfaceError("", None, Exception("another operation is in progress")), False),
        (ProgrammingError("", None, Exception("no such table")), False),
        (DatabaseUnavailable("away"), True),
        (ConnectionError("of the bank"), False),
        (TimeoutError("of the bank"), False),
    ],
    ids=str,
)
def test_only_what_the_database_says_itself_counts(error: Exception, passes: bool) -> None:
    assert is_passing(error) is passes
