"""Following the operation log: what others have committed is applied here, whether they have told of it or not.

The push of a command is faster; the log is what nothing can be lost from. An operation that was pushed is known as
applied and is not applied again, for its keys may have been computed anew meanwhile (`AppliedOperations`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from fusion_cluster.commands.operation import Operation
from fusion_cluster.database.log_readers import LogEntry, new_reader
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.database.log_wakes import new_wake

if TYPE_CHECKING:
    from fusion_cluster.database.database import Database

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S: Final = 2.0
"""Between two attempts to read a log that cannot be read."""


class LogFollower:
    """Reads the log of a database for one host, from `start` to `close`.

    Args:
        database: whose.
        on_entries: applies entries.
        on_missed: takes everything for out of date: entries are lost to this reader.

    Attributes:
        read_count: how often the log has been read.
        entry_count: how many entries it has given.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_entries: Callable[[Sequence[LogEntry]], None],
        on_missed: Callable[[], None],
    ) -> None:
        self._log = database.log
        self._on_entries = on_entries
        self._on_missed = on_missed
        self._reader = new_reader(database.engines)
        self._wake = new_wake(database.engines)
        self._trimmer = LogTrimmer(database)
        self._task: asyncio.Task[None] | None = None
        self.read_count = 0
        self.entry_count = 0

    async def start(self) -> None:
        """Begin: what is committed after this has returned will be applied."""
        await self._reader.start()
        self._log.on_logged.append(self._on_logged)
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="follow the operation log")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is None:
            return
        with contextlib.suppress(ValueError):
            self._log.on_logged.remove(self._on_logged)
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._wake.close()

    def _on_logged(self, operation: Operation) -> None:
        self._wake.notify()

    async def _follow(self) -> None:
        pause_s = 0.0
        while True:
            await self._wake.wait(self._log.options.period_s)
            try:
                await self._read()
                await self._trimmer.trim_when_due()
                pause_s = 0.0
            except Exception as error:  # the database is away, or broken: that must not end this
                if not pause_s:
                    logger.warning("the operation log cannot be read: %s; trying again", error)
                pause_s = min(max(2 * pause_s, 0.05), LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)

    async def _read(self) -> None:
        entries = await self._reader.read()
        self.read_count += 1
        if entries is None:
            logger.warning("the operation log was trimmed, or has grown, beyond what was read: all is out of date")
            self._on_missed()
        elif entries:
            self.entry_count += len(entries)
            self._on_entries(entries)


class AppliedOperations:
    """Operations whose keys have been invalidated here, by a push or from the log: the latest of them.

    Args:
        limit: how many are remembered. To forget one costs computing its keys once more.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._ids

    def add(self, operation_id: str) -> None:
        """Remember one, now that all its keys are invalidated; "" is no operation."""
        if operation_id and operation_id not in self._ids:
            if len(self._ids) >= self._limit:
                del self._ids[next(iter(self._ids))]
            self._ids[operation_id] = None
