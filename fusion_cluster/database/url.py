"""Database URLs: what users write, and what SQLAlchemy's async engine needs."""

from __future__ import annotations

import os
import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from fusion_cluster.errors import UsageError

_ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
}


def parse_url(url: str) -> URL:
    """The URL with an async driver where none was named, and an absolute path if it is a SQLite file.

    Raises:
        UsageError: it is no URL, or names an in-memory database.
    """
    if not isinstance(url, str | URL):
        raise UsageError(f"not a database URL: {url!r}; it is a text such as sqlite:///shop.db", field="url")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UsageError(f"not a database URL: {masked(str(url))!r}; such as sqlite:///shop.db", field="url") from error
    parsed = parsed.set(drivername=_ASYNC_DRIVERS.get(parsed.drivername, parsed.drivername))
    return _file_url(parsed) if parsed.get_backend_name() == "sqlite" else parsed


def _file_url(url: URL) -> URL:
    """A SQLite URL that means the same file whatever becomes of the current folder."""
    path = url.database or ""
    if path in ("", ":memory:") or "mode=memory" in path or url.query.get("mode") == "memory":
        raise UsageError(
            f"{masked(str(url))!r} is a database in memory, which connections and processes cannot share: name a file, "
            "such as sqlite:///shop.db",
            field="url",
        )
    return url if path.startswith("file:") else url.set(database=os.path.abspath(path))


def masked(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", url)
