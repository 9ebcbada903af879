"""The app of the `caching` benchmark: rows of a table, read with memo and without, and changed by commands."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, command, compute_method

ROWS = 1_000


class Base(DeclarativeBase):
    pass


class StoredRow(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    changes: Mapped[int]


@dataclass(frozen=True)
class Content:
    id: int
    name: str
    changes: int


class Rows(ComputeService):
    database: Database

    async def read(self, row_id: int) -> Content:
        """The body of `get`, without memo."""
        async with self.database.session() as session:
            row = await session.get_one(StoredRow, row_id)
            return Content(row.id, row.name, row.changes)

    @compute_method
    async def get(self, row_id: int) -> Content:
        return await self.read(row_id)

    @command(barrier=False)
    async def read_remotely(self, row_id: int) -> Content:
        """The body of `get` for callers outside, without memo: commands are never cached."""
        return await self.read(row_id)

    @command
    async def change(self, row_id: int) -> int:
        """Change the row; returns how often it has been changed."""
        async with self.database.operation() as operation:
            row = await operation.session.get_one(StoredRow, row_id)
            row.changes += 1
            self.get.invalidate(row_id)
            return row.changes


def make_app(url: str) -> App:
    """The app over the database of that URL."""
    return App("caching", services=[Rows], database=Database(url))


async def fill(database: Database) -> None:
    """Create the table and its rows."""
    await database.create_tables(Base.metadata)
    async with database.operation() as operation:
        operation.session.add_all(StoredRow(id=n, name=f"row {n}", changes=0) for n in range(ROWS))


async def stored(database: Database) -> dict[int, Content]:
    """All rows, straight from the database."""
    async with database.session() as session:
        rows = await session.scalars(select(StoredRow))
        return {row.id: Content(row.id, row.name, row.changes) for row in rows}
