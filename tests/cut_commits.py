"""A proxy before a PostgreSQL server that can lose what is said about a COMMIT, or the COMMIT itself."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from pathlib import Path
from types import TracebackType
from typing import Self

SOCKET = ".s.PGSQL.5432"


class Loss(enum.Enum):
    """What is lost of the next COMMIT."""

    NOTHING = "nothing"
    ANSWER = "its answer"
    COMMIT = "the COMMIT"


class CommitCutter:
    """Forwards what is said on a Unix socket, and cuts the connection that a COMMIT comes by on.

    Args:
        folder: where the server's socket is.
        own_folder: where the proxy's is to be.

    Attributes:
        loss: of the next COMMIT; then nothing more.
        cuts: how many connections it has cut.
        is_holding: the server does not learn that the connection is gone: to it, the transaction is open.
        goes_down: from the next cut on, nobody can connect.
        is_down: nobody can connect.
    """

    def __init__(self, folder: Path, own_folder: Path) -> None:
        self._folder = folder
        self._own_folder = own_folder
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        self.loss = Loss.NOTHING
        self.cuts = 0
        self.is_holding = False
        self.goes_down = False
        self.is_down = False

    def url(self, url: str) -> str:
        """The same database, by way of the proxy."""
        return url.replace(str(self._folder), str(self._own_folder))

    def release(self) -> None:
        """Tell the server about the connections that were cut."""
        self.is_holding = False
        self._released.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._on_client, self._own_folder / SOCKET)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.release()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _on_client(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.is_down:
                await self._forward(client, to_client)
        finally:
            self._tasks.discard(task)
            to_client.close()

    async def _forward(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(self._folder / SOCKET)
        answers = asyncio.create_task(_copy(server, to_client))
        try:
            while said := await client.read(65_536):
                if b"COMMIT" in said and self.loss is not Loss.NOTHING:
                    loss, self.loss = self.loss, Loss.NOTHING
                    await self._cut(said, loss, to_client, to_server, answers)
                    return
                to_server.write(said)
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            await asyncio.wait([answers])
            to_server.close()

    async def _cut(
        self,
        commit: bytes,
        loss: Loss,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        self.cuts += 1
        self.is_down = self.goes_down
        answers.cancel()
        if loss is Loss.ANSWER:
            to_server.write(commit)
            await to_server.drain()
        to_client.transport.abort()
        if self.is_holding:
            await self._released.wait()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while said := await source.read(65_536):
            target.write(said)
        target.close()
