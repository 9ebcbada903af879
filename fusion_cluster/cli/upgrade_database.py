"""`fusion-cluster upgrade-database`: the library's tables by hand, as a step of a deployment."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

from fusion_cluster.app import import_app
from fusion_cluster.database import Database
from fusion_cluster.database.migrations import Upgrade, upgrade
from fusion_cluster.errors import DatabaseUnavailable, UsageError


def upgrade_database(
    database: Annotated[
        str,
        typer.Argument(
            help="The app whose database it is, as module:attribute, or the database's URL.",
            metavar="APP|URL",
            show_default=False,
        ),
    ],
) -> None:
    """Make or upgrade the library's tables, fusion_...: fusion-cluster upgrade-database shop:app.

    Shards do so when they start, if their role may. The app's own tables are left alone.
    """
    meant = _database(database)
    done = asyncio.run(_upgraded(meant))
    typer.echo(f"{meant.url}: {_told(done)}")


def _database(name: str) -> Database:
    if "://" in name:
        return Database(name)
    found = import_app(name).database
    if found is None:
        raise UsageError(f"the app {name!r} has no database", field="app")
    return found


async def _upgraded(database: Database) -> Upgrade:
    try:
        return await upgrade(database.engines().writing)
    except (OSError, DBAPIError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise DatabaseUnavailable(f"{database.url}: {reason}") from error
    finally:
        await database.dispose()


def _told(done: Upgrade) -> str:
    if done.before is None:
        return f"tables made, of revision {done.after}"
    if done.before == done.after:
        return f"tables are of revision {done.after} already, the newest"
    return f"tables upgraded from revision {done.before} to {done.after}"
