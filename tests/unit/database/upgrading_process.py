"""A process that upgrades: python -m tests.unit.database.upgrading_process URL [stop].

It says "ready" and waits for a line; then it upgrades and says from which revision to which. With `stop` it says
"stopped" in the midst of the transaction, when the tables are there and their revision is not noted, and stays so.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from fusion_cluster.database import Database
from fusion_cluster.database.migrations import VERSION_TABLE, upgrade


def stop_before_the_revision_is_noted(connection: object, cursor: object, text: str, *_: Any) -> None:
    if text.startswith(f"INSERT INTO {VERSION_TABLE}"):
        print("stopped", flush=True)
        sys.stdin.read()


async def main(url: str) -> None:
    database = Database(url)
    print("ready", flush=True)
    sys.stdin.readline()
    done = await upgrade(database.engines().writing)
    await database.dispose()
    print(done.before, done.after)


if __name__ == "__main__":
    if "stop" in sys.argv:
        event.listen(Engine, "before_cursor_execute", stop_before_the_revision_is_noted)
    asyncio.run(main(sys.argv[1]))
