"""Follows the operation log: operations that others have committed are applied here, with or without their push.

The push of a command is faster; the log loses nothing. An operation that was pushed is known as applied and is not
applied again, because its keys may have been computed anew meanwhile (`applied_operations`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from fusion_cluster.commands.operation import Operation
from fusion_cluster.database.log_readers import LogEntry, new_reader
from fusion_cluster.database.log_wakes import new_wake
from fusion_cluster.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from fusion_cluster.database.database import Database

logger = logging.getLogger(__name__)

SHORTEST_PAUSE_S: Final = 0.01
"""The shortest pause between two reads of the log."""

READ_TIMEOUT_S: Final = 15.0
"""After this time without an answer, the server is asked over another connection."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
"""The longest pause between two attempts to read a log that cannot be read."""


class LogFollower:
    """Reads the log of a database for one host, from `start` to `close`.

    Args:
        database: the database that has the log.
        on_entries: applies entries.
        on_missed: marks everything as out of date; called when this reader has missed entries.
        runtime: makes its task.

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
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._log = database.log
        self._on_entries = on_entries
        self._on_missed = on_missed
        self._reader = new_reader(database.engines)
        self._wake = new_wake(database.engines, runtime=runtime)
        self._pauses = runtime.backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._tasks = runtime.scope("the follower of the operation log")
        self.read_count = 0
        self.entry_count = 0

    async def start(self) -> None:
        """Begin. Operations committed after this has returned are applied."""
        await self._reader.start()
        self._log.on_logged.append(self._on_logged)
        self._tasks.spawn(self._follow(), name="follow the operation log")

    async def close(self) -> None:
        """Stop reading."""
        with contextlib.suppress(ValueError):
            self._log.on_logged.remove(self._on_logged)
        try:
            await self._tasks.close()
        finally:
            await self._wake.close()

    def _on_logged(self, operation: Operation) -> None:
        """Notes a commit, which may come from another event loop or from a process that was forked from this one."""
        if os.getpid() != self._pid:
            return
        if asyncio.get_running_loop() is self._loop:
            self._wake.notify()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake.notify)

    async def _follow(self) -> None:
        is_failing = False
        while True:
            try:
                await self._wake.wait(self._log.options.period_s)
                async with asyncio.timeout(READ_TIMEOUT_S):
                    entries = await self._reader.read()
            except Exception as error:  # the database is away or broken: the follower goes on
                if not is_failing:
                    logger.warning("the operation log cannot be read: %s; trying again", error)
                is_failing = True
                await asyncio.sleep(self._pauses.next_s())
            else:
                is_failing = False
                self._pauses.reset()
                self._apply(entries)
                await asyncio.sleep(SHORTEST_PAUSE_S)  # so that commits in quick succession are read together

    def _apply(self, entries: Sequence[LogEntry] | None) -> None:
        """Apply entries, which will not be read again."""
        self.read_count += 1
        if entries is None:
            logger.warning("changes since the last read of the operation log are unknown: all is marked out of date")
            self._on_missed()
            return
        self.entry_count += len(entries)
        try:
            if entries:
                self._on_entries(entries)
        except Exception:
            logger.exception("an entry of the operation log cannot be applied: all is marked out of date")
            self._on_missed()
