"""The event loop does not wait for the thread of an SQLite connection, and does not keep it from its work either."""

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
from tests.apps.shelves import Base, ShelfRow
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


async def test_an_event_loop_that_is_never_idle_lets_sqlite_have_its_turn(tmp_path: Path) -> None:
    """Without, each statement takes a good part of a second: the thread does not get the interpreter's lock."""
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    await database.create_tables(Base.metadata)
    loop, is_over = asyncio.get_running_loop(), False

    async def spin() -> None:
        while not is_over:  # noqa: ASYNC110 - never idle
            await asyncio.sleep(0)

    spinning = [asyncio.create_task(spin()) for _ in range(20)]
    begun_s = loop.time()
    for shelf_id in range(20):
        async with database.operation() as operation:
            operation.session.add(ShelfRow(id=shelf_id, amount=1))
        async with database.session() as session:
            assert await session.get(ShelfRow, shelf_id) is not None
    took_s = loop.time() - begun_s
    is_over = True
    await asyncio.gather(*spinning)
    await database.dispose()
    assert took_s < 5
