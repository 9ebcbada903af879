from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from fusion_cluster.app import App
from fusion_cluster.database import Database
from tests.apps.shelves import Shelves, Stock, shelves_host
from tests.waiting import until

pytest_plugins = ["tests.databases"]


async def driver_of(connection: AsyncConnection) -> object:
    return (await connection.get_raw_connection()).driver_connection


def is_closed(driver: object) -> bool:
    """Whether an asyncpg connection has been closed, or the thread of one to SQLite has ended."""
    if isinstance(driver, threading.Thread):
        return not driver.is_alive()
    closed = getattr(driver, "is_closed", None)
    if closed is not None:
        return bool(closed())
    return not vars(driver)["_thread"].is_alive()  # of aiosqlite, which says it nowhere else


@pytest.fixture(params=["reading", "writing", "listening"])
async def connection(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[AsyncConnection]:
    """One in use, of each engine of a database."""
    await database.prepare()
    async with getattr(database.engines(), request.param).connect() as connection:
        await connection.execute(text("SELECT 1"))
        yield connection


async def test_a_connection_in_use_is_closed_when_it_is_given_back(
    database: Database, connection: AsyncConnection
) -> None:
    driver = await driver_of(connection)
    await database.dispose()
    assert not is_closed(driver)
    assert (await connection.execute(text("SELECT 1"))).scalar() == 1
    await connection.close()
    await until(lambda: is_closed(driver))


async def test_a_connection_that_was_lost_meanwhile_is_given_back(
    database: Database, connection: AsyncConnection
) -> None:
    driver = await driver_of(connection)
    await database.dispose()
    await connection.invalidate()
    await connection.close()
    await until(lambda: is_closed(driver))


async def test_the_database_of_an_app_that_was_closed_serves_another_one(database_url: str) -> None:
    async with shelves_host(database_url) as host:
        async with App("other", [Shelves, Stock], database=host.app.database).local() as other:
            assert await other.service(Shelves).put(1, 5) == "1 holds 5"
            reads = asyncio.gather(*(host.service(Shelves).amount(number) for number in range(20)))
            await asyncio.sleep(0)
        assert await reads == [0, 5, *[0] * 18]
        assert await host.service(Shelves).put(1, 6) == "1 holds 6"
        assert await host.service(Shelves).amount(1) == 6
