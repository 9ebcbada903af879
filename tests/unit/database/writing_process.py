"""A process that counts up a row in many operations: python -m tests.unit.database.writing_process PATH SHELF TIMES."""

from __future__ import annotations

import asyncio
import sys

from fusion_cluster.database import Database
from tests.apps.shelves import Base, ShelfRow


async def count_up(path: str, shelf_id: int, times: int) -> None:
    """Read, then write, in each operation: what fails on a lock upgrade if the lock is not taken at once."""
    database = Database(f"sqlite:///{path}")
    await database.create_tables(Base.metadata)
    for _ in range(times):
        async with database.operation() as operation:
            row = await operation.session.get(ShelfRow, shelf_id)
            if row is None:
                operation.session.add(ShelfRow(id=shelf_id, amount=1))
            else:
                row.amount += 1
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(count_up(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
