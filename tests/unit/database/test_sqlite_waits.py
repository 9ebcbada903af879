"""The thread of SQLite's writing connection may wait for another transaction; the event loop must not wait for it."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from fusion_cluster import Database
from tests.shelves import Base, ShelfRow
from tests.waiting import until


async def test_what_is_left_of_a_failed_statement_is_collected_while_the_connection_waits(tmp_path: Path) -> None:
    """SQLite's cursors are: the connection's lock, which its thread holds meanwhile, would be waited for."""
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    await database.create_tables(Base.metadata)

    async def put(*shelf_ids: int) -> None:
        async with database.operation() as operation:
            for shelf_id in shelf_ids:
                await operation.session.execute(insert(ShelfRow).values(id=shelf_id, amount=1))

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(IntegrityError):
                await put(1, 1)
        with closing(sqlite3.connect(tmp_path / "shelves.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(put(2))
            loop = asyncio.get_running_loop()
            may_wait_from_s = loop.time() + 0.2
            await until(lambda: loop.time() > may_wait_from_s, what="the thread, to be at it,")
            begun_s = loop.time()
            gc.collect()
            assert loop.time() < begun_s + 5
            assert not waiting.done()
            other.execute("ROLLBACK")
            await waiting
    finally:
        gc.enable()
    await database.dispose()
