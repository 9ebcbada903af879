"""Connections that are lost during a COMMIT, before or after the database has made it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from sqlalchemy.exc import OperationalError

from fusion_cluster import Database
from fusion_cluster.database.operation_log import OperationLog

Moment = Literal["before", "after", "late"]
"""When the connection is lost: the COMMIT never arrives; its answer never does; it arrives when `deliver` is called."""


class Severed(Protocol):
    """A database whose connections can be cut."""

    database: Database

    def cut(self, moment: Moment, *, for_good: bool = False) -> None:
        """Cut the next connection that commits; with `for_good`, let none be made after it until `mend`."""
        ...

    def mend(self) -> None:
        """Let connections be made again."""
        ...


# -- PostgreSQL --------------------------------------------------------------------------------------------------------
class SeveredPostgreSQL:
    """Stands between the driver and the server, on a socket of its own."""

    def __init__(self, folder: Path, target: Path, url: str) -> None:
        self._path = folder / target.name
        self._target = target
        self.database = Database(url.replace(str(target.parent), str(folder)))
        self._moment: Moment | None = None
        self._is_away = False
        self._cuts_for_good = False
        self._delivered = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, moment: Moment, *, for_good: bool = False) -> None:
        self._moment = moment
        self._cuts_for_good = for_good
        self._delivered.clear()

    def mend(self) -> None:
        self._is_away = False

    def deliver(self) -> None:
        """Let a late COMMIT arrive."""
        self._delivered.set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._on_connection, self._path)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_away:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, to_there = await asyncio.open_unix_connection(self._target)
        back = asyncio.create_task(_pump(there, writer))
        try:
            while chunk := await reader.read(65536):
                if b"COMMIT;" in chunk and self._moment is not None:
                    await self._cut(chunk, back, writer, there, to_there)
                    return
                to_there.write(chunk)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            back.cancel()
            await asyncio.wait([back])
            for stream in (writer, to_there):
                stream.close()
                with suppress(OSError):
                    await stream.wait_closed()

    async def _cut(
        self,
        commit: bytes,
        back: asyncio.Task[None],
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        to_there: asyncio.StreamWriter,
    ) -> None:
        moment, self._moment = self._moment, None
        self._is_away = self._cuts_for_good
        back.cancel()
        await asyncio.wait([back])
        if moment == "late":
            writer.close()
            await self._delivered.wait()
        if moment != "before":
            to_there.write(commit)
            await there.readuntil(b"COMMIT\0")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()


@asynccontextmanager
async def severed_postgresql(url: str) -> AsyncIterator[SeveredPostgreSQL]:
    """A database on a server, by its URL, which has a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="fusion-cut-"))
    severed = SeveredPostgreSQL(folder, _socket_of(url), url)
    await severed.open()
    try:
        yield severed
    finally:
        await severed.close()
        shutil.rmtree(folder)


def _socket_of(url: str) -> Path:
    (path,) = Path(url.partition("host=")[2]).glob(".s.PGSQL.????")
    return path


# -- SQLite ------------------------------------------------------------------------------------------------------------
class SeveredSQLite:
    """There is no connection to cut: the driver says that it is lost."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = Database(url)
        self._monkeypatch = monkeypatch
        self._is_away = False
        write = OperationLog._write

        async def write_if_there(log: OperationLog, *arguments: Any, **options: Any) -> None:
            if self._is_away:
                raise OperationalError("", None, sqlite3.OperationalError("no active connection"))
            await write(log, *arguments, **options)

        monkeypatch.setattr(OperationLog, "_write", write_if_there)

    def cut(self, moment: Moment, *, for_good: bool = False) -> None:
        dialect = self.database.engines().writing.sync_engine.dialect
        commit = dialect.do_commit
        is_cut = False

        def lose(connection: Any) -> None:
            nonlocal is_cut
            if is_cut:
                commit(connection)
                return
            is_cut, self._is_away = True, for_good
            if moment == "after":
                commit(connection)
            raise sqlite3.OperationalError("no active connection")

        self._monkeypatch.setattr(dialect, "do_commit", lose)

    def mend(self) -> None:
        self._is_away = False
