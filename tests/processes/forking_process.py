"""A process that forks while clients and hosts are open in it, and says what became of them on either side.

Prints lines of JSON: what each use in the child gave, how the child ended, and what the parent reads afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fusion_cluster.client import connect, connect_blocking
from fusion_cluster.testing import LocalCluster
from tests.apps.shelf import Shelf, app, fresh_stock

PATIENCE_S = 30.0


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def outcome(use: Callable[[], object]) -> str:
    try:
        return f"gave {use()!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


async def async_outcome(use: Callable[[], Awaitable[object]]) -> str:
    try:
        return f"gave {await use()!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def ending_of(child: int) -> str:
    ended, _, _ = select.select([os.pidfd_open(child)], [], [], PATIENCE_S)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return f"exit code {os.waitstatus_to_exitcode(status)}" if ended else "it hung"


def with_blocking_clients(address: str) -> None:
    """The child leaves as a program does, with all that is torn down then."""
    with connect_blocking(address) as client, app.local_blocking() as host:
        shelf, own = client.service(Shelf), host.service(Shelf)
        say(before=[shelf.count("nut"), client.call("Shelf.count", "nut"), own.count("nut")])
        child = os.fork()
        if child == 0:
            uses: dict[str, Callable[[], object]] = {
                "hit": lambda: shelf.count("nut"),
                "miss": lambda: shelf.count("bolt"),
                "command": lambda: shelf.put("nut", 1),
                "by name": lambda: client.call("Shelf.count", "nut"),
                "changes": lambda: next(shelf.count.changes("nut")),  # type: ignore[call-overload]
                "host": lambda: own.count("nut"),
                "another": lambda: connect_blocking(address).__enter__(),
                "close": lambda: client.__exit__(None, None, None),
                "close host": lambda: host.__exit__(None, None, None),
            }
            say(child={name: outcome(use) for name, use in uses.items()})
            sys.exit(3)
        say(ending=ending_of(child))
        client.execute("Shelf.put", "nut", 2)
        say(after=[shelf.count("nut"), client.call("Shelf.count", "nut"), own.count("nut")])


async def with_async_clients(address: str) -> None:
    async with connect(address) as client, app.local() as host, LocalCluster(app, shards=2) as cluster:
        shelf, own, spread = client.service(Shelf), host.service(Shelf), cluster.service(Shelf)

        async def read() -> list[object]:
            return [
                await shelf.count("nut"),
                await client.call("Shelf.count", "nut"),
                await own.count("nut"),
                await spread.count("nut"),
            ]

        async def in_child() -> None:
            uses: dict[str, Callable[[], Any]] = {
                "hit": lambda: shelf.count("nut"),
                "miss": lambda: shelf.count("bolt"),
                "command": partial(shelf.put, "nut", 1),
                "by name": partial(client.call, "Shelf.count", "nut"),
                "watch": lambda: anext(client.watch("Shelf.count", "nut")),
                "host": lambda: own.count("nut"),
                "host's command": partial(own.put, "nut", 1),
                "host's invalidation": partial(own.count.invalidate, "nut"),
                "cluster": lambda: spread.count("bolt"),
                "cluster's hit": lambda: spread.count("nut"),
                "close": client.close,
                "close host": host.close,
                "close cluster": lambda: cluster.__aexit__(None, None, None),
            }
            say(child={name: await async_outcome(use) for name, use in uses.items()})
            async with app.local() as new:
                say(new=await new.service(Shelf).count("nut"))

        say(before=await read())
        child = os.fork()
        if child == 0:
            asyncio.run(in_child())
            os._exit(3)
        say(ending=await asyncio.to_thread(ending_of, child))
        await shelf.put("nut", 2)
        say(after=await read())


def main() -> None:
    """Run the way, at the address, that the command line says."""
    way, address = sys.argv[1:]
    fresh_stock()
    if way == "blocking":
        with_blocking_clients(address)
    else:
        asyncio.run(with_async_clients(address))


if __name__ == "__main__":
    main()
