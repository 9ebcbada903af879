"""Checks the library's tables once in each process and event loop, and upgrades them if needed."""

from __future__ import annotations

import asyncio
from contextvars import Context

from sqlalchemy.ext.asyncio import AsyncEngine

from fusion_cluster.database.availability import reaching
from fusion_cluster.database.migrations import NEWEST, find_revision, upgrade
from fusion_cluster.runtime import SYSTEM, Runtime


class Preparation:
    """Prepares one database in one event loop.

    Concurrent callers share one check. It goes on when one of them is cancelled. A failure is raised to all of them and
    not remembered.
    """

    def __init__(self, reading: AsyncEngine, writing: AsyncEngine, *, runtime: Runtime = SYSTEM) -> None:
        self._create_task = runtime.create_task
        self._reading = reading
        self._writing = writing
        self._is_done = False
        self._running: asyncio.Task[None] | None = None

    async def ensure(self) -> None:
        """Wait until the tables are of the newest revision."""
        if self._is_done:
            return
        if self._running is None:
            # In a context of its own: it does not belong to the work of the first caller.
            self._running = self._create_task(self._prepare(), name="prepare the database", context=Context())
            self._running.add_done_callback(self._on_ended)
        running = self._running
        await asyncio.wait((running,))
        running.result()

    async def ended(self) -> None:
        """Wait until no check is running."""
        if self._running is not None:
            await asyncio.wait((self._running,))

    async def _prepare(self) -> None:
        with reaching():
            if await find_revision(self._reading) != NEWEST:
                await upgrade(self._writing)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self._running = None
        self._is_done = not task.cancelled() and task.exception() is None
