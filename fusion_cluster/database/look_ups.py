"""Looks commands up in the operation log by their ids, before they run.

One connection is kept for it, with one query at a time: ids asked for meanwhile go into the next query together. A
query begins after all its ids were asked for, so it sees everything committed before. The query goes directly to the
driver. If that fails, or the driver is not known here, SQLAlchemy asks again on a connection that it has tested, and
reports the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from fusion_cluster.database.schema import COMMANDS, OPERATIONS
from fusion_cluster.failures.failure import Failure
from fusion_cluster.runtime import SYSTEM, Runtime

logger = logging.getLogger(__name__)

Found = Sequence[Any]
"""The row of an operation: its id, fingerprint, outcome, encoded keys, host, and time of commit."""

_FIND: Final = union_all(
    select(
        *(OPERATIONS.c.operation_id, OPERATIONS.c.fingerprint, OPERATIONS.c.outcome, OPERATIONS.c["keys"]),
        *(OPERATIONS.c.host, OPERATIONS.c.committed_at),
    ).where(OPERATIONS.c.operation_id.in_(bindparam("ids", expanding=True))),
    select(
        *(COMMANDS.c.command_id, COMMANDS.c.fingerprint, COMMANDS.c.outcome, literal(b"\x90")),
        *(literal(""), COMMANDS.c.committed_at),
    ).where(COMMANDS.c.command_id.in_(bindparam("ids", expanding=True))),
)

_DIRECT: Final = (
    "SELECT operation_id, fingerprint, outcome, keys, host, committed_at FROM fusion_operations"
    " WHERE operation_id {among} UNION ALL"
    " SELECT command_id, fingerprint, outcome, {no_keys}, '', committed_at FROM fusion_commands"
    " WHERE command_id {among}"
)
_AIOSQLITE: Final = _DIRECT.format(among="IN (SELECT value FROM json_each(?1))", no_keys="x'90'")
_ASYNCPG: Final = _DIRECT.format(among="= ANY($1)", no_keys=r"'\x90'::bytea")


class LookUps:
    """Looks ids up, in one database and event loop.

    Args:
        engine: the engine to read with, in autocommit mode.
        session: gives a session to read with.
    """

    def __init__(self, engine: AsyncEngine, session: Callable[[], AsyncSession], *, runtime: Runtime = SYSTEM) -> None:
        self._tasks = runtime.scope("look-ups of commands")
        self._engine = engine
        self._session = session
        self._ask = {"aiosqlite": _ask_aiosqlite, "asyncpg": _ask_asyncpg}.get(engine.dialect.driver)
        # The connection, kept until something fails on it; and the driver's own.
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        # Id -> its callers; no query has asked for these ids yet.
        self._wanted: dict[str, list[asyncio.Future[Found | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, operation_id: str) -> Found | None:
        """Return the record of an id; None: there is none.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found | None] = loop.create_future()
        self._wanted.setdefault(operation_id, []).append(answer)
        if self._task is None:
            self._task = self._tasks.spawn(self._run(), name="look commands up")
        return await answer

    async def close(self) -> None:
        """Give the connection back."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            await connection.close()

    async def _run(self) -> None:
        try:
            while self._wanted:
                asked, self._wanted = self._wanted, {}
                found: dict[str, Found] = {}
                failure: Exception | None = None
                try:
                    found = {row[0]: row for row in await self._rows(list(asked))}
                except Exception as error:
                    failure = error
                for operation_id, answers in asked.items():
                    for answer in answers:
                        if answer.done():  # the caller was cancelled
                            continue
                        if failure is None:
                            answer.set_result(found.get(operation_id))
                        else:
                            answer.set_exception(Failure(failure).to_raise())  # one object for each caller
        finally:
            self._task = None

    async def _rows(self, ids: list[str]) -> Sequence[Found]:
        if self._ask is not None:
            try:
                return await self._ask(self._driver or await self._connect(), ids)
            except Exception as error:
                logger.debug("the operation log is asked once more: %s", error)
                await self._drop()
        async with self._session() as session:
            return (await session.execute(_FIND, {"ids": ids})).all()

    async def _connect(self) -> Any:
        self._connection = await self._engine.connect()
        driver: Any = (await self._connection.get_raw_connection()).driver_connection
        if self._engine.dialect.name == "postgresql":
            # A plan made while the log is short would read all of the log, for as long as the plan is kept.
            await driver.execute("SET enable_seqscan = off")
        self._driver = driver
        return driver

    async def _drop(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.invalidate()
            with contextlib.suppress(Exception):
                await connection.close()


async def _ask_aiosqlite(driver: Any, ids: list[str]) -> Sequence[Found]:
    rows: Sequence[Found] = await driver.execute_fetchall(_AIOSQLITE, (json.dumps(ids),))
    return rows


async def _ask_asyncpg(driver: Any, ids: list[str]) -> Sequence[Found]:
    rows: Sequence[Found] = await driver.fetch(_ASYNCPG, ids)
    return rows
