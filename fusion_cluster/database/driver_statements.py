"""The library's own statements, given to the database driver directly. Some run with each operation.

SQLAlchemy would look up the compiled statement and wrap its rows in a result, which costs more than the statement
itself. The errors are those that SQLAlchemy raises. SQLAlchemy's events do not see these statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, insert, select
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError


class DirectInsert:
    """An INSERT of one row, compiled once for the databases of one kind.

    Args:
        table: the table to insert into.
        columns: the columns that get values.
        condition: a row is inserted only if it holds; the values of its parameters follow those of the columns.
    """

    def __init__(self, table: Table, columns: Sequence[str], condition: ColumnElement[bool] | None = None) -> None:
        self._table = table
        self._columns = columns
        self._condition = condition
        self._names = [*columns, *(condition.compile().params if condition is not None else ())]
        self._dialect: Dialect | None = None
        self._sql = ""
        # The columns in the order of the driver's parameters; None: the driver takes them by name.
        self._order: Sequence[str] | None = None

    def execute(self, connection: Connection, values: Sequence[Any]) -> bool:
        """Insert a row; False: the condition does not hold.

        Args:
            connection: the connection to use.
            values: the values of the columns, as the driver takes them.

        Raises:
            DBAPIError: the database refuses, or is lost.
        """
        if connection.dialect is not self._dialect:
            self._compile(connection.dialect)
        named = dict(zip(self._names, values, strict=True))
        parameters = named if self._order is None else tuple([named[name] for name in self._order])
        return execute_directly(connection, self._sql, parameters) != 0

    def _compile(self, dialect: Dialect) -> None:
        columns = list(self._columns)
        if self._condition is None:
            compiled: Any = insert(self._table).compile(dialect=dialect, column_keys=columns)
        else:
            given = select(*(bindparam(name, type_=self._table.c[name].type) for name in columns))
            compiled = insert(self._table).from_select(columns, given.where(self._condition)).compile(dialect=dialect)
        self._sql, self._order = str(compiled), compiled.positiontup
        self._dialect = dialect


def execute_directly(connection: Connection, sql: str, parameters: Any = ()) -> int:
    """Execute a statement that gives no rows, in the driver's SQL. The connection's transaction must have begun.

    Returns:
        The number of rows changed; -1 if it is not known.

    Raises:
        DBAPIError: the database refuses, or is lost.
    """
    with execution(connection, sql):
        cursor = connection.connection.cursor()
        try:
            cursor.execute(sql, parameters)
            return cursor.rowcount
        finally:
            cursor.close()


@contextmanager
def execution(connection: Connection, sql: str) -> Iterator[None]:
    """Wraps a block that executes a statement by the driver itself.

    Raises:
        DBAPIError: in place of the driver's error.
    """
    dialect, raw = connection.dialect, connection.connection
    try:
        yield
    except dialect.loaded_dbapi.Error as error:
        is_lost = dialect.is_disconnect(error, raw, None)
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
        if not isinstance(error, Exception):  # a cancellation: the driver may still be executing
            connection.invalidate(error)
        raise
