"""`fusion-cluster upgrade-database`: makes or upgrades the library's tables by hand, as a step of a deployment."""

from __future__ import annotations

from fusion_cluster.cli.databases import DatabaseName, named_database, run_with
from fusion_cluster.cli.output import say
from fusion_cluster.database.migrations import Upgrade, upgrade


def upgrade_database(database: DatabaseName) -> None:
    """Make or upgrade the library's tables, fusion_...: fusion-cluster upgrade-database shop:app.

    Shards do so when they start, if their role may. The app's own tables do not change.
    """
    meant = named_database(database)
    done = run_with(meant, lambda meant: upgrade(meant.engines().writing))
    say(f"{meant.url}: {_told(done)}")


def _told(done: Upgrade) -> str:
    if done.before is None:
        return f"tables made, at revision {done.after}"
    if done.before == done.after:
        return f"tables are already at revision {done.after}, the newest"
    return f"tables upgraded from revision {done.before} to revision {done.after}"
