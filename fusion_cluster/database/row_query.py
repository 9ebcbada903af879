"""Statements that find rows by their keys: built once, for any number of keys.

The keys are a numbered table to join with, and each row comes with the number of its key: the database decides which
key finds which row, by its own rules for letter case, spaces, zones and numbers. So the rows of a key do not depend on
the other keys of the statement. PostgreSQL is given the keys as arrays: one statement, prepared once. SQLite is given
them one by one, as rows (`VALUES`, which SQLAlchemy expands).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    Integer,
    Select,
    Table,
    bindparam,
    func,
    inspect,
    select,
    text,
    tuple_,
    type_coerce,
)
from sqlalchemy import column as sql_column
from sqlalchemy.exc import ArgumentError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ColumnProperty, Mapper, QueryableAttribute

from fusion_cluster.errors import UsageError

_KEYS = "fusion_keys"
"""The name of the keys in a statement."""

_NUMBER = "fusion_number"
"""The name of a key's number in a statement."""


class RowQuery:
    """The rows of a mapped class, as instances, or of a table, as mappings, whose columns equal one of the keys.

    Args:
        entity: the mapped class, or the table.
        by: the columns that make a key; empty: the primary key. The key of several columns is a tuple.
        order_by: the order of the rows that have the same key; empty: that of the primary key.
        backend: "sqlite", "postgresql", or another one of SQLAlchemy.

    Attributes:
        width: how many columns make a key.
        parameters_each: how many parameters of the statement a key takes, at most.

    Raises:
        UsageError: `entity` is not a mapped class or table, or a column is not one of its columns; `field` says which.
    """

    def __init__(self, entity: Any, by: Sequence[Any], order_by: Sequence[Any], *, backend: str) -> None:
        if isinstance(entity, Table):
            name, identity = entity.name, list[Any](entity.primary_key)
            columns = [_column_of(entity, column) for column in by] or identity
            statement: Select[*tuple[Any, ...]] = select(entity)
            self._columns_of_row = len(entity.columns)
        else:
            mapper = inspect(entity, raiseerr=False)
            if not isinstance(mapper, Mapper):
                raise UsageError(f"{entity!r} is neither a mapped class nor a table", field="entity")
            name = mapper.class_.__name__
            identity = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
            columns = [_attribute_of(mapper, attribute) for attribute in by] or identity
            statement = select(entity)
            self._columns_of_row = 1
        if not columns:
            raise UsageError(f"{name} has no primary key: say by which columns to look its rows up", field="by")
        self.width = len(columns)
        self._name = f"{name} by {', '.join(column.key for column in columns)}"
        self._is_of_instances = not isinstance(entity, Table)
        self._takes_arrays = backend == "postgresql"
        self.parameters_each = self.width if self._takes_arrays else self.width + 1
        try:
            self._statement = _joined(statement, columns, backend).order_by(*(order_by or identity))
        except ArgumentError as error:
            raise UsageError(f"{name} cannot be put in that order: {error}", field="order_by") from error

    def __repr__(self) -> str:
        return self._name

    async def one_each(self, session: AsyncSession, keys: Sequence[Any]) -> list[Any]:
        """Find the one row of each key, in the order of the keys; None: no row; an error: several rows."""
        found: list[Any] = [None] * len(keys)
        for number, row in await self._rows(session, keys):
            is_first = found[number] is None
            found[number] = (
                row if is_first else MultipleResultsFound(f"{self!r}: several rows have the key {keys[number]!r}")
            )
        return found

    async def all_each(self, session: AsyncSession, keys: Sequence[Any]) -> list[Any]:
        """Find the rows of each key, in the order of the keys."""
        found: list[list[Any]] = [[] for _ in keys]
        for number, row in await self._rows(session, keys):
            found[number].append(row)
        return found

    async def _rows(self, session: AsyncSession, keys: Sequence[Any]) -> list[tuple[int, Any]]:
        """Return the rows, each with the place of its key."""
        result = await session.execute(self._statement, self._parameters(keys))
        first = 1 if self._takes_arrays else 0
        if self._is_of_instances:
            return [(number - first, row) for row, number in result.unique().all()]
        rows = result.freeze()
        numbers = rows().scalars(self._columns_of_row)
        return [
            (number - first, row)
            for number, row in zip(numbers, rows().columns(*range(self._columns_of_row)).mappings(), strict=True)
        ]

    def _parameters(self, keys: Sequence[Any]) -> dict[str, Any]:
        if not self._takes_arrays:
            rows = keys if self.width > 1 else ((key,) for key in keys)
            return {_KEYS: [(*row, number) for number, row in enumerate(rows)]}
        columns = zip(*keys, strict=True) if self.width > 1 else (keys,)
        return {f"{_KEYS}_{place}": list(values) for place, values in enumerate(columns)}


def _column_of(table: Table, column: Any) -> Any:
    if not isinstance(column, Column) or column.table is not table:
        raise UsageError(f"{column!r} is not a column of {table.name}", field="by")
    return column


def _attribute_of(mapper: Mapper[Any], attribute: Any) -> Any:
    if isinstance(attribute, QueryableAttribute) and isinstance(attribute.parent, Mapper):
        own = mapper.attrs.get(attribute.key) if mapper.isa(attribute.parent) else None
        if isinstance(own, ColumnProperty):
            return own.class_attribute
    raise UsageError(f"{attribute!r} is not a column of {mapper.class_.__name__}", field="by")


def _joined(statement: Select[*tuple[Any, ...]], columns: Sequence[Any], backend: str) -> Select[*tuple[Any, ...]]:
    """Return the statement for rows whose columns equal a given key; each row comes with the number of its key."""
    if backend == "postgresql":
        arrays = [bindparam(f"{_KEYS}_{place}", type_=ARRAY(column.type)) for place, column in enumerate(columns)]
        names = [f"key_{place}" for place in range(len(columns))]
        keys = func.unnest(*arrays).table_valued(*names, with_ordinality=_NUMBER).render_derived(name=_KEYS)
        return statement.where(*map(eq, columns, (keys.columns[name] for name in names))).add_columns(
            keys.columns[_NUMBER]
        )
    # SQLAlchemy expands the keys to "(VALUES (?, ?), (?, ?))", whose columns SQLite calls column1 and column2. They
    # have no type there, so that each value is compared as the table's column says.
    wanted = bindparam(_KEYS, expanding=True, type_=tuple_(*columns, type_coerce(0, Integer)).type)
    values = [sql_column(f"column{number}", column.type) for number, column in enumerate(columns, start=1)]
    number = sql_column(f"column{len(columns) + 1}", Integer())
    rows = text(f"SELECT * FROM :{_KEYS}").bindparams(wanted).columns(*values, number).subquery(_KEYS)
    *own, number_of_key = rows.columns
    return statement.where(*map(eq, columns, own)).add_columns(number_of_key.label(_NUMBER))
