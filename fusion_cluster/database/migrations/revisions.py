"""The revisions of the library's tables, each a module in `versions`, and the steps between them, by Alembic.

Alembic's own environment (`env.py`, `alembic.ini`, `alembic.context`, `alembic.op`) is not used: there is one for the
whole process, and the app may be using it at the same moment, in another thread or for another database.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from fusion_cluster.database.schema import VERSION_TABLE
from fusion_cluster.database.url import masked
from fusion_cluster.errors import UsageError

FOLDER: Final = Path(__file__).parent
"""The folder that holds `versions`."""


def current_revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None: there are none."""
    return _context(connection).get_current_revision()


def take_steps(connection: Connection, before: str | None, after: str) -> None:
    """Take every step from one revision to a later one, in the connection's transaction, and note the later one.

    Raises:
        UsageError: the library does not know the present revision.
    """
    scripts = ScriptDirectory(FOLDER)
    newest_first = list(scripts.walk_revisions(head=after))
    if before is not None and before not in [script.revision for script in newest_first]:
        raise UsageError(
            f"the tables of fusion-cluster in {masked(connection.engine.url.render_as_string())!r} are of revision "
            f"{before}, made by a newer version of the library; this one knows them up to revision {after}: upgrade it"
        )
    context = _context(connection)
    operations = Operations(context)
    missing = takewhile(lambda script: script.revision != before, newest_first)
    for script in reversed(list(missing)):
        script.module.upgrade(operations)
    context.stamp(scripts, after)


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
