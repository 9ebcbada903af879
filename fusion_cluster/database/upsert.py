"""INSERT … ON CONFLICT DO UPDATE, which SQLite and PostgreSQL have in common and SQLAlchemy has for each."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession


def upsert(session: AsyncSession, table: Table, *keys: str) -> Insert:
    """Return the statement that puts rows into `table`, in the place of those that have the same keys.

    >>> await operation.session.execute(upsert(operation.session, KEY_VALUES, "key"), rows)

    Args:
        session: what it will be executed with.
        table: the table; the rows must name all of its columns.
        keys: names of the columns by which a row is unique.
    """
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    insert: Any = (postgresql.insert if is_postgresql else sqlite.insert)(table)
    changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    statement: Insert = insert.on_conflict_do_update(index_elements=keys, set_=changed)
    return statement
