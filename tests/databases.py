"""Each test twice, on SQLite and on PostgreSQL: `pytest_plugins = ["tests.databases"]`, and the fixture `database`.

A module that says so imports nothing from here: pytest wants to be the first. The library's tables are there, for every
test would make them first; under `@pytest.mark.empty_database` nothing is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusion_cluster import Database

pytest_plugins = ["tests.postgres"]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new database."""
    url: str = request.getfixturevalue(f"{'sqlite' if request.param == 'sqlite' else 'postgres'}_url")
    return url


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database of SQLite."""
    file = tmp_path / "test.db"
    if request.node.get_closest_marker("empty_database") is None:
        shutil.copyfile(request.getfixturevalue("prepared_sqlite"), file)
    return f"sqlite:///{file}"


@pytest.fixture(scope="session")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the library's tables, to be copied."""
    file = tmp_path_factory.mktemp("prepared") / "prepared.db"

    async def prepare() -> None:
        database = Database(f"sqlite:///{file}")
        await database.prepare()
        await database.dispose()

    with ThreadPoolExecutor(1) as thread:  # there may be an event loop in this one
        thread.submit(asyncio.run, prepare()).result()
    assert not file.with_name("prepared.db-wal").exists()
    return file


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A new database."""
    database = Database(database_url)
    yield database
    await database.dispose()
