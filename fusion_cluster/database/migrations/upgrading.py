"""Brings the library's tables to the newest revision, however many processes begin at once.

Invariant: a database has the tables of one revision, the one that the version table names, or none. All steps and the
new version are one transaction, and processes that upgrade queue for a lock before they read the revision: on
PostgreSQL an advisory lock, which ends with the transaction, on SQLite the file's write lock. A process that is killed
leaves the tables as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, String, column, func, inspect, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from fusion_cluster.database.schema import VERSION_TABLE
from fusion_cluster.database.url import masked
from fusion_cluster.errors import UsageError

NEWEST: Final = "0002"
"""The newest revision in `versions`: this version of the library works with it."""

_LOCK: Final = 0x667573696F6F
"""The number of PostgreSQL's advisory lock for upgrades."""

_OLDEST_POSTGRESQL: Final = 13
"""The first version with `xid8`."""

_FORBIDDEN: Final = ("42501", "25006")
"""PostgreSQL: insufficient privilege; a read-only transaction."""

_REVISION: Final[Select[Any]] = select(column("version_num", String)).select_from(table(VERSION_TABLE))


@dataclass(frozen=True)
class Upgrade:
    """The result of an upgrade.

    Attributes:
        before: the revision they were of; None: there were none.
        after: the revision they are of.
    """

    before: str | None
    after: str


async def find_revision(engine: AsyncEngine) -> str | None:
    """Return the revision of the library's tables, by one SELECT if there are some; None: there are none."""
    revision: str | None
    async with engine.connect() as connection:
        try:
            revision = await connection.scalar(_REVISION)
        except DBAPIError:
            await connection.rollback()
            if not await connection.run_sync(_has_version_table):
                return None
            revision = await connection.scalar(_REVISION)  # another process has made it meanwhile, or this says why
        return revision


async def upgrade(engine: AsyncEngine) -> Upgrade:
    """Bring the library's tables to the newest revision, in one transaction; nothing else is touched.

    Any number of processes may call it at once: one upgrades, the others wait for it.

    Args:
        engine: one that writes; on SQLite its transactions must begin with BEGIN IMMEDIATE.

    Raises:
        UsageError: the tables are newer than the library, the role may not make or change them, or the database is
            neither SQLite nor PostgreSQL.
    """
    is_postgresql = engine.dialect.name == "postgresql"
    if not is_postgresql and engine.dialect.name != "sqlite":
        raise UsageError(f"{_named(engine)} is neither PostgreSQL nor SQLite: operations are logged in those alone")
    try:
        async with engine.connect() as connection:
            if is_postgresql:  # another level would show the state before the lock was granted
                await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                if is_postgresql:
                    await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
                return await connection.run_sync(_upgrade)
    except DBAPIError as error:
        if not _is_forbidden(error):
            raise
        raise UsageError(
            f"the tables of fusion-cluster in {_named(engine)} must be made or upgraded to revision {NEWEST}, which "
            "this connection may not do: run `fusion-cluster upgrade-database` as a role that may, see docs/database.md"
        ) from error


def _upgrade(connection: Connection) -> Upgrade:
    version = connection.dialect.server_version_info or ()
    if connection.dialect.name == "postgresql" and version < (_OLDEST_POSTGRESQL,):
        raise UsageError(f"PostgreSQL {_OLDEST_POSTGRESQL} or newer is needed, this is {'.'.join(map(str, version))}")
    # Alembic is loaded only when needed, mostly by the first of many processes.
    from fusion_cluster.database.migrations.revisions import current_revision, take_steps

    before = current_revision(connection)
    if before != NEWEST:
        take_steps(connection, before, NEWEST)
    return Upgrade(before, NEWEST)


def _has_version_table(connection: Connection) -> bool:
    return inspect(connection).has_table(VERSION_TABLE)


def _is_forbidden(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _FORBIDDEN or "readonly database" in str(error.orig)


def _named(engine: AsyncEngine) -> str:
    return repr(masked(engine.url.render_as_string()))
