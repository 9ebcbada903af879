"""Statements that go to the driver as they are: the library's own, of which some run with each operation.

SQLAlchemy would find them compiled and make a result of their rows, which costs more than the rest of it. Errors are
those that it would raise. Its events do not see these statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, insert
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError


class DirectInsert:
    """An INSERT of one row, compiled once for the databases of one kind.

    Args:
        table: into which.
        columns: those that get values.
    """

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._table = table
        self._columns = columns
        self._dialect: Dialect | None = None
        self._sql = ""
        # The columns in the order of the driver's parameters; None: it takes them by name.
        self._order: Sequence[str] | None = None

    def execute(self, connection: Connection, values: Sequence[Any]) -> None:
        """Insert a row.

        Args:
            connection: where.
            values: of the columns, as the driver takes them.

        Raises:
            DBAPIError: the database refuses, or is lost.
        """
        if connection.dialect is not self._dialect:
            self._compile(connection.dialect)
        named = dict(zip(self._columns, values, strict=True))
        execute_directly(
            connection, self._sql, named if self._order is None else tuple([named[name] for name in self._order])
        )

    def _compile(self, dialect: Dialect) -> None:
        compiled: Any = insert(self._table).compile(dialect=dialect, column_keys=list(self._columns))
        self._sql, self._order = str(compiled), compiled.positiontup
        self._dialect = dialect


def execute_directly(connection: Connection, sql: str, parameters: Any = ()) -> None:
    """Execute a statement that gives no rows, in the driver's SQL and the connection's transaction, which has begun.

    Raises:
        DBAPIError: the database refuses, or is lost.
    """
    dialect, raw = connection.dialect, connection.connection
    cursor = raw.cursor()
    try:
        cursor.execute(sql, parameters)
    except dialect.loaded_dbapi.Error as error:
        is_lost = dialect.is_disconnect(error, raw, cursor)
        refusal = DBAPIError.instance(
            *(sql, None, error, dialect.loaded_dbapi.Error),
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=dialect,
        )
        if is_lost:
            connection.invalidate(error)
        raise refusal from error
    except BaseException as error:
        if not isinstance(error, Exception):  # a cancellation: the driver may be at it still
            connection.invalidate(error)
        raise
    finally:
        cursor.close()
