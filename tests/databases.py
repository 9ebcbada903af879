"""Each test twice, on SQLite and on PostgreSQL: `pytest_plugins = ["tests.databases"]`, and the fixture `database`.

Where the database is not the subject, a module says `pytestmark = pytest.mark.any_database`. Its tests run on SQLite
then, and those with the mark `both_databases` on PostgreSQL too; with THOROUGH=1 all do.

A module with these plugins imports nothing from here: pytest wants to be the first. The library's tables are there, for
every test would make them first; under `@pytest.mark.empty_database` nothing is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusion_cluster import Database
from tests.thorough import IS_THOROUGH

pytest_plugins = ["tests.postgres"]


KINDS = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the databases of a test that does not name them itself."""
    test = metafunc.definition
    is_named = any("database_url" in mark.args[0] for mark in test.iter_markers("parametrize"))
    if "database_url" in metafunc.fixturenames and not is_named:
        metafunc.parametrize("database_url", databases_of(test), indirect=True)


def databases_of(test: pytest.Item) -> tuple[str, ...]:
    """The kinds of databases on which a test runs."""
    is_any = test.get_closest_marker("any_database") is not None and test.get_closest_marker("both_databases") is None
    return KINDS[:1] if is_any and not IS_THOROUGH else KINDS


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new database, of the kind that the parameter says."""
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
