"""Pooled connections to PostgreSQL are tried when they have lain idle, and known as closed without asking."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from fusion_cluster import Database
from fusion_cluster.database import idle_pings
from tests.waiting import until

pytest_plugins = ["tests.postgres"]


@pytest.fixture
async def engine(postgres_url: str) -> AsyncEngine:
    return Database(postgres_url).engines().writing


@pytest.fixture
def pings(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections that the server was asked about."""
    pinged: list[object] = []
    ping = engine.dialect.do_ping

    def noting(connection: object) -> bool:
        pinged.append(connection)
        return ping(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.dialect, "do_ping", noting)
    return pinged


async def pid(engine: AsyncEngine) -> int:
    """The server's process behind the connection that is given out."""
    async with engine.connect() as connection:
        found: int = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        return found


async def test_one_that_was_used_a_moment_ago_is_not_asked_about(engine: AsyncEngine, pings: list[object]) -> None:
    assert await pid(engine) == await pid(engine) == await pid(engine)
    assert pings == []
    await engine.dispose()


async def test_one_that_has_lain_idle_is(
    engine: AsyncEngine, pings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_pings, "PING_AFTER_S", 0.0)
    assert await pid(engine) == await pid(engine) == await pid(engine)
    assert len(pings) == 2
    await engine.dispose()


async def test_one_that_the_server_has_closed_is_replaced(engine: AsyncEngine, pings: list[object]) -> None:
    async with engine.connect() as other:
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            closed = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await other.execute(text(f"SELECT pg_terminate_backend({closed})"))
        assert driver is not None
        await until(driver.is_closed)
        assert await pid(engine) != closed
    assert pings == []
    await engine.dispose()


async def test_one_that_does_not_answer_is_replaced_and_all_that_are_as_old(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.connect(), engine.connect() as second:
        old = {(await second.execute(text("SELECT pg_backend_pid()"))).scalar_one(), await pid(engine)}

    def fail(connection: object) -> bool:
        raise OSError("no route to host")

    monkeypatch.setattr(idle_pings, "PING_AFTER_S", 0.0)
    monkeypatch.setattr(engine.dialect, "do_ping", fail)
    assert await pid(engine) not in old
    await engine.dispose()
