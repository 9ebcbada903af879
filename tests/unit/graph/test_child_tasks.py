"""A.25 in the tasks of bodies: one that exits ends no event loop, and callers get an error that names it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.errors import BodyExited
from fusion_cluster.testing import LocalCluster


async def leaves() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def leaves_at_once() -> None:
    raise KeyboardInterrupt


async def leaves_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        sys.exit(4)


async def by_gather(leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(asyncio.sleep(0), leave())


async def by_group(leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(leave())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def by_a_task_of_a_task(leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.create_task(by_gather(leave))


async def by_cancelling(_: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.create_task(leaves_when_cancelled())
    await asyncio.sleep(0)
    task.cancel()
    await task


WAYS = {way.__name__: way for way in (by_gather, by_group, by_a_task_of_a_task, by_cancelling)}
LEAVING = {leave.__name__: leave for leave in (leaves, leaves_at_once)}


class Shelves(ComputeService):
    @compute_method
    async def read(self, way: str, leave: str) -> int:
        await WAYS[way](LEAVING[leave])
        return 1

    @command
    async def change(self, way: str, leave: str) -> int:
        await WAYS[way](LEAVING[leave])
        return 1

    @compute_method
    async def well(self, number: int) -> int:
        return number


app = App("shelves", [Shelves])


async def check(shelves: Shelves, way: str, leave: str) -> None:
    for method in ("change", "read"):  # a command first: nothing of the graph has been used yet
        with pytest.raises(BodyExited, match=rf"Shelves\.{method} raised (SystemExit: [34]|KeyboardInterrupt)"):
            await getattr(shelves, method)(way, leave)
    assert await shelves.well(7) == 7


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("way", WAYS)
async def test_a_task_of_a_body_that_exits_fails_its_body(way: str, leave: str) -> None:
    async with app.local() as host:
        await check(host.service(Shelves), way, leave)


async def test_so_it_does_across_shards() -> None:
    async with LocalCluster(app, shards=2) as cluster:
        await check(cluster.service(Shelves), "by_gather", "leaves")


async def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing_behind() -> None:
    class Hasty(ComputeService):
        @compute_method
        async def read(self) -> str:
            task = asyncio.create_task(leaves(), name="hasty")
            task.cancel()
            await asyncio.wait([task])
            return f"{task.cancelled()} {leaves.__name__ in repr(task)}"

    async with App("hasty", [Hasty]).local() as host:
        assert await host.service(Hasty).read() == "True True"
