"""Wakes for followers of the operation log before their period is over. If a wake fails, the period still ends.

PostgreSQL has LISTEN and NOTIFY. A process notifies after its commit, on a separate connection, a hundred times a
second at most: a NOTIFY within a transaction would let the commits of all processes queue for one lock. SQLite has no
notifications, but each commit appends to the file of its write-ahead log. Reading the length and time of that file
costs two microseconds, so it is done often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from fusion_cluster.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from fusion_cluster.database.engines import Engines

logger = logging.getLogger(__name__)

CHANNEL: Final = "fusion_operations"
LOOK_S: Final = 0.02
"""How often the file of SQLite's write-ahead log is checked."""

NOTIFY_PAUSE_S: Final = 0.01
"""The pause after a notification: one more notification announces everything committed meanwhile."""

NOTIFY_TIMEOUT_S: Final = 5.0
"""A connection that needs longer to notify is given up."""


class LogWake(Protocol):
    """Wakes one follower."""

    async def wait(self, timeout_s: float) -> None:
        """Return when there may be new entries, or when the time is up."""
        ...

    def notify(self) -> None:
        """Wake the others, after a commit in this process."""
        ...

    def wake(self) -> None:
        """Let `wait` return."""
        ...

    async def close(self) -> None:
        """Stop."""
        ...


def new_wake(engines: Callable[[], Engines], *, runtime: Runtime = SYSTEM) -> LogWake:
    """Make the wake of a follower of the database whose engines are given."""
    reading = engines().reading
    if reading.dialect.name == "postgresql":
        return PostgreSQLWake(engines, runtime=runtime)
    return SQLiteWake(f"{reading.url.database}-wal")


class SQLiteWake:
    """Watches a file.

    Args:
        path: of the write-ahead log.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._look()
        self._woken = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return when the file has changed, or the time is up."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while self._look() == self._seen and (left_s := deadline_s - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_S, left_s)):
                    await self._woken.wait()
                break
        self._woken.clear()
        self._seen = self._look()  # before the log is read: a later change is seen the next time

    def notify(self) -> None:
        """Nothing to do: the commit has changed the file."""

    def wake(self) -> None:
        """Let `wait` return."""
        self._woken.set()

    async def close(self) -> None:
        """Nothing to do."""

    def _look(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except OSError:  # no connection is open
            return 0, 0
        return status.st_size, status.st_mtime_ns


class PostgreSQLWake:
    """Listens on a separate connection, which it opens again when it is lost.

    Args:
        engines: gives the engines to connect with.
        runtime: makes the task that notifies.
    """

    def __init__(self, engines: Callable[[], Engines], *, runtime: Runtime = SYSTEM) -> None:
        self._tasks = runtime.scope("the wake of the operation log")
        self._engines = engines
        self._woken = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._notifying: asyncio.Task[None] | None = None
        self._is_notified = False
        self._is_failing = False

    async def wait(self, timeout_s: float) -> None:
        """Return when a notification came, when the time is up, or when listening works again."""
        if self._driver is None or self._driver.is_closed():
            await self._listen(timeout_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()

    def notify(self) -> None:
        """Notify all others as soon as there is a connection; one notification serves all calls made meanwhile."""
        self._is_notified = True
        if self._notifying is None and self._driver is not None:
            self._notifying = self._tasks.spawn(self._notify(), name="notify of a commit")

    def wake(self) -> None:
        """Let `wait` return."""
        self._woken.set()

    async def close(self) -> None:
        """Stop listening."""
        await self._tasks.close()
        await self._drop()

    async def _listen(self, timeout_s: float) -> None:
        await self._drop()
        try:
            async with asyncio.timeout(max(timeout_s, 1.0)):
                self._connection = await self._engines().listening.connect()
                raw = await self._connection.get_raw_connection()
                driver: Any = raw.driver_connection
                await driver.add_listener(CHANNEL, self._on_notification)
                driver.add_termination_listener(lambda _: self._woken.set())
        except Exception as error:  # also the driver's own
            if not self._is_failing:
                logger.warning("the operation log is read without being notified: %s", error)
            self._is_failing = True
            await self._drop()
            return
        self._driver = driver
        self._is_failing = False
        self._woken.set()  # notifications may have been missed before
        if self._is_notified:
            self.notify()

    def _on_notification(self, driver: Any, pid: int, channel: str, payload: str) -> None:
        if pid != driver.get_server_pid():
            self._woken.set()

    async def _notify(self) -> None:
        try:
            while self._is_notified and self._driver is not None:
                self._is_notified = False
                await self._driver.execute(f"NOTIFY {CHANNEL}", timeout=NOTIFY_TIMEOUT_S)
                await asyncio.sleep(NOTIFY_PAUSE_S)
        except Exception as error:  # the driver's own; the others read the log by themselves
            logger.info("the other processes could not be notified of a commit: %s", error)
            self._driver = None  # it is opened again
            self._woken.set()
        finally:
            self._notifying = None

    async def _drop(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.invalidate()
            with contextlib.suppress(Exception):
                await connection.close()
