"""The app of the `command` and `operation_log` benchmarks: rows that a command changes one by one."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.caching_rows import StoredRow, fill
from fusion_cluster import App, ComputeService, Database, command, compute_method

__all__ = ["Changes", "change_by_hand", "fill", "make_app"]


class Changes(ComputeService):
    database: Database

    @compute_method
    async def get(self, row_id: int) -> int:
        async with self.database.session() as session:
            return (await session.get_one(StoredRow, row_id)).changes

    @command
    async def change(self, row_id: int) -> None:
        async with self.database.operation() as operation:
            row = await operation.session.get_one(StoredRow, row_id)
            row.changes += 1
            self.get.invalidate(row_id)


async def change_by_hand(database: Database, row_id: int) -> None:
    """What `Changes.change` does, without the library: the same statements on the same connections, and no log."""
    engines = database.engines()
    async with engines.writers, AsyncSession(engines.writing) as session, session.begin():
        row = await session.get_one(StoredRow, row_id)
        row.changes += 1


def make_app(url: str) -> App:
    """The app over the database of that URL."""
    return App("changes", services=[Changes], database=Database(url))
