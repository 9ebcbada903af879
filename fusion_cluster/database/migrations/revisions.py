"""The revisions of the library's tables, each a module in `versions`, and the steps between them, by Alembic.

Alembic's own environment (`env.py`, `alembic.ini`, `alembic.context`, `alembic.op`) is left alone: it is one for the
process, and the app may be using it at the same moment, in another thread or for another database.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from fusion_cluster.database.migrations.upgrade import VERSION_TABLE
from fusion_cluster.database.url import masked
from fusion_cluster.errors import UsageError

FOLDER: Final = Path(__file__).parent
"""Where `versions` is."""


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables; None: there are none."""
    return _context(connection).get_current_revision()


def take_steps(connection: Connection, before: str | None, after: str) -> None:
    """Take every step from one revision to a later one, in the connection's transaction, and note the later one.

    Raises:
        UsageError: the library does not know the revision there is.
    """
    context = _context(connection)
    scripts = ScriptDirectory(FOLDER)
    try:
        steps = list(scripts.iterate_revisions(after, before or "base"))
    except CommandError as error:
        raise UsageError(
            f"the tables of fusion-cluster in {masked(connection.engine.url.render_as_string())!r} are of revision "
            f"{before}, made by a newer version of the library; this one knows them up to revision {after}: upgrade it"
        ) from error
    operations = Operations(context)
    for step in reversed(steps):  # they come newest first
        step.module.upgrade(operations)
    context.stamp(scripts, after)


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
