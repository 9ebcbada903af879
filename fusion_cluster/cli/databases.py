"""Shared parts of the commands that work on a database: find it by its name, and report when it is away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from sqlalchemy.exc import DBAPIError

from fusion_cluster.app_import import import_app
from fusion_cluster.database import Database
from fusion_cluster.errors import DatabaseUnavailable, UsageError

T = TypeVar("T")

DatabaseName = Annotated[
    str,
    typer.Argument(
        help="The app whose database it is, as module:attribute, or the database's URL.",
        metavar="APP|URL",
        show_default=False,
    ),
]


def named_database(name: str) -> Database:
    """Return the database of an app, or the database at a URL.

    Raises:
        UsageError: the app does not exist, or it has no database.
    """
    if "://" in name:
        return Database(name)
    if os.path.isfile(name) and not name.endswith(".py"):
        raise UsageError(f"{name!r} is a file; if it is a SQLite database, its URL is sqlite:///{name}", field="app")
    found = import_app(name).database
    if found is None:
        raise UsageError(f"the app {name!r} has no database", field="app")
    return found


def run_with(database: Database, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run work on a database, in a new event loop.

    Raises:
        DatabaseUnavailable: the database could not be reached, or has refused the work.
    """

    async def run() -> T:
        try:
            return await work(database)
        except (OSError, DBAPIError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise DatabaseUnavailable(f"{database.url}: {reason}") from error
        finally:
            await database.dispose()

    return asyncio.run(run())
