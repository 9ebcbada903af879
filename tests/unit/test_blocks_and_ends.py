"""Hosts and clusters that are used before they are opened, after they are closed, twice, or from another loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.errors import UsageError
from fusion_cluster.testing import LocalCluster


class Desk(ComputeService):
    @compute_method
    async def leaf(self, number: int) -> int:
        return number

    @command
    async def touch(self, number: int) -> int:
        return number


app = App("desk", [Desk])


@pytest.mark.parametrize("use", ["service", "graph", "why", "function"])
def test_what_is_not_entered_says_how_to_enter_it(use: str) -> None:
    with pytest.raises(UsageError, match=rf"local\(\) itself does not have {use}: use `async with local\(...\)"):
        getattr(app.local(), use)


def test_with_instead_of_async_with() -> None:
    block: Any = app.local()
    with pytest.raises(UsageError, match=r"local\(\) is entered by `async with`"), block:
        pass


async def test_awaiting_it() -> None:
    block: Any = app.local()
    with pytest.raises(UsageError, match=r"local\(\) is not awaited: use `async with"):
        await block


async def test_entering_it_twice() -> None:
    block = app.local()
    async with block:
        pass
    with pytest.raises(UsageError, match=r"local\(\) is entered once"):
        async with block:
            pass


USES: list[Callable[[LocalCluster], Any]] = [
    lambda cluster: cluster.service(Desk),
    lambda cluster: cluster.host,
    lambda cluster: cluster.owner("Desk.leaf", 1),
    lambda cluster: cluster.new_host("another"),
    lambda cluster: cluster.start_shard(0),
    lambda cluster: cluster.kill_shard(0),
]


async def used(use: Callable[[LocalCluster], Any], cluster: LocalCluster) -> None:
    result = use(cluster)
    if asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize("use", USES)
async def test_a_cluster_that_is_not_open(use: Callable[[LocalCluster], Any]) -> None:
    cluster = LocalCluster(app, shards=1)
    with pytest.raises(UsageError, match=r"the LocalCluster of the app 'desk' is not open: use it in `async with"):
        await used(use, cluster)
    async with cluster:
        pass
    with pytest.raises(UsageError, match="the LocalCluster of the app 'desk' is closed"):
        await used(use, cluster)


async def test_a_cluster_is_opened_once() -> None:
    cluster = LocalCluster(app, shards=1)
    async with cluster:
        with pytest.raises(UsageError, match="was opened before: make another one"):
            await cluster.__aenter__()
        assert await cluster.service(Desk).leaf(1) == 1
    with pytest.raises(UsageError, match="was opened before: make another one"):
        await cluster.__aenter__()


async def test_shards_that_are_not_there() -> None:
    async with LocalCluster(app, shards=2) as cluster:
        with pytest.raises(UsageError, match=r"shard 0 runs; of 2 shards there run 0, 1"):
            await cluster.start_shard(0)
        with pytest.raises(UsageError, match=r"shard 7 is not there"):
            await cluster.kill_shard(7)
        await cluster.kill_shard(0)
        with pytest.raises(UsageError, match=r"shard 0 does not run; of 2 shards there run 1"):
            await cluster.kill_shard(0)
        await cluster.start_shard(0)


async def test_services_of_a_cluster_that_is_closed() -> None:
    async with LocalCluster(app, shards=2) as cluster:
        desk = cluster.service(Desk)
        await desk.leaf(1)
    for use in (lambda: desk.leaf(1), lambda: desk.leaf(2), lambda: desk.touch(1), lambda: desk.leaf.invalidate(1)):
        with pytest.raises(UsageError, match="the host of the app 'desk' is closed"):
            await use()


@pytest.mark.parametrize("strict", [True, False])
def test_a_command_in_another_loop_is_refused_by_name(strict: bool) -> None:
    loop = asyncio.new_event_loop()
    opening = app.local(strict=strict)
    try:
        host = loop.run_until_complete(opening.__aenter__())
        desk = host.service(Desk)
        assert loop.run_until_complete(desk.touch(1)) == 1
        with pytest.raises(UsageError, match=r"^Desk.touch: the host of the app 'desk' belongs to another event loop"):
            asyncio.run(desk.touch(1))
    finally:
        loop.run_until_complete(opening.__aexit__(None, None, None))
        loop.close()
