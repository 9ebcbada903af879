"""Statements that find rows by their keys: built once, for any number of keys.

PostgreSQL is given the keys as arrays: one statement, prepared once. Other databases are given them one by one (`IN`,
which SQLAlchemy expands). SQLite would read the whole table for an `IN` over several columns; there the keys of several
columns are rows to join with.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq, itemgetter
from typing import Any

from sqlalchemy import ARRAY, Column, Select, Table, any_, bindparam, func, inspect, select, text, tuple_
from sqlalchemy import column as sql_column
from sqlalchemy.exc import ArgumentError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ColumnProperty, Mapper, QueryableAttribute

from fusion_cluster.errors import UsageError

_KEYS = "fusion_keys"
"""What the keys are called in a statement."""


class RowQuery:
    """The rows of a mapped class, as instances, or of a table, as mappings, whose columns equal one of the keys.

    Args:
        entity: the mapped class, or the table.
        by: the columns that make a key; none: the primary key. The key of several columns is a tuple.
        order_by: the order of the rows that have the same key; none: that of the primary key.
        backend: "sqlite", "postgresql", or another one of SQLAlchemy.

    Attributes:
        width: how many columns make a key.

    Raises:
        UsageError: what is no mapped class or table, or no column of it; `field` says which.
    """

    def __init__(self, entity: Any, by: Sequence[Any], order_by: Sequence[Any], *, backend: str) -> None:
        if isinstance(entity, Table):
            name, identity = entity.name, list[Any](entity.primary_key)
            columns = [_column_of(entity, column) for column in by] or identity
            place_of = {column: place for place, column in enumerate(entity.columns)}
            places = [place_of[column] for column in columns]
            statement: Select[*tuple[Any, ...]] = select(entity)
        else:
            mapper = inspect(entity, raiseerr=False)
            if not isinstance(mapper, Mapper):
                raise UsageError(f"{entity!r} is neither a mapped class nor a table", field="entity")
            name = mapper.class_.__name__
            identity = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
            columns = [_attribute_of(mapper, attribute) for attribute in by] or identity
            places = list(range(1, len(columns) + 1))
            statement = select(entity, *columns)  # a row is the instance, and behind it the key
        if not columns:
            raise UsageError(f"{name} has no primary key: say by which columns to look its rows up", field="by")
        self.width = len(columns)
        self._name = f"{name} by {', '.join(column.key for column in columns)}"
        self._is_of_instances = not isinstance(entity, Table)
        self._key_of = itemgetter(*places)
        self._takes_arrays = backend == "postgresql"
        try:
            self._statement = _where_equal(statement, columns, backend).order_by(*(order_by or identity))
        except ArgumentError as error:
            raise UsageError(f"{name} cannot be put in that order: {error}", field="order_by") from error

    def __repr__(self) -> str:
        return self._name

    async def one_each(self, session: AsyncSession, keys: Sequence[Any]) -> dict[Any, Any]:
        """Find the one row of each key; keys without a row are not in what is returned.

        Raises:
            MultipleResultsFound: several rows have the same key.
            UsageError: the database takes keys for equal that Python does not.
        """
        found: dict[Any, Any] = {}
        for key, row in await self._rows(session, keys):
            if key in found:
                raise MultipleResultsFound(f"{self!r}: several rows have the key {key!r}")
            found[key] = row
        return found

    async def all_each(self, session: AsyncSession, keys: Sequence[Any]) -> dict[Any, Any]:
        """Find the rows of each key, in order; keys without a row are not in what is returned.

        Raises:
            UsageError: the database takes keys for equal that Python does not.
        """
        found: dict[Any, list[Any]] = {}
        for key, row in await self._rows(session, keys):
            found.setdefault(key, []).append(row)
        return found

    async def _rows(self, session: AsyncSession, keys: Sequence[Any]) -> list[tuple[Any, Any]]:
        result = await session.execute(self._statement, self._parameters(keys))
        rows = (result.unique() if self._is_of_instances else result).all()
        asked = set(keys)
        found = []
        for row in rows:
            key = self._key_of(row)
            if key not in asked:
                raise UsageError(
                    f"{self!r}: the database has found {key!r}, to which no key is equal in Python: look it up as it "
                    "is stored",
                    field="key",
                )
            found.append((key, row[0] if self._is_of_instances else row._mapping))
        return found

    def _parameters(self, keys: Sequence[Any]) -> dict[str, Any]:
        if not self._takes_arrays:
            return {_KEYS: keys}
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


def _where_equal(statement: Select[*tuple[Any, ...]], columns: Sequence[Any], backend: str) -> Select[*tuple[Any, ...]]:
    """The statement, for rows whose columns equal a key that it is given when it is executed."""
    if backend == "postgresql":
        arrays = [bindparam(f"{_KEYS}_{place}", type_=ARRAY(column.type)) for place, column in enumerate(columns)]
        if len(columns) == 1:
            return statement.where(columns[0] == any_(arrays[0]))
        names = [f"key_{place}" for place in range(len(columns))]
        keys = func.unnest(*arrays).table_valued(*names).render_derived(name=_KEYS)
        return statement.where(*map(eq, columns, (keys.columns[name] for name in names)))
    if len(columns) == 1:
        return statement.where(columns[0].in_(bindparam(_KEYS, expanding=True, type_=columns[0].type)))
    wanted = bindparam(_KEYS, expanding=True, type_=tuple_(*columns).type)
    if backend != "sqlite":
        return statement.where(tuple_(*columns).in_(wanted))
    # SQLAlchemy expands the keys to "(VALUES (?, ?), (?, ?))", whose columns SQLite calls column1 and column2.
    values = [sql_column(f"column{number}", column.type) for number, column in enumerate(columns, start=1)]
    rows = text(f"SELECT * FROM :{_KEYS}").bindparams(wanted).columns(*values).subquery(_KEYS)
    return statement.where(*map(eq, columns, rows.columns))
