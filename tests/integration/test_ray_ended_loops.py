"""User code on real actors that would end them: a shard serves on, or leaves its process, and Ray starts it again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fusion_cluster.errors import BodyExited, ClusterError, CommandError
from fusion_shards.launch import LaunchedApp, launch
from tests.apps.exits_on_ray import Exits, app
from tests.waiting import until_so

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def launched(ray_cluster: str) -> Iterator[LaunchedApp]:
    launched = asyncio.run(launch("tests.apps.exits_on_ray:app", shards=1, gateways=0))
    yield launched
    asyncio.run(launched.stop())


async def test_a_body_that_exits_ends_no_shard(launched: LaunchedApp) -> None:
    async with app.cluster() as cluster:
        exits = cluster.service(Exits)
        before = await exits.pid("a")
        for _ in range(2):
            with pytest.raises(BodyExited, match=r"Exits.exits raised SystemExit: 3") as caught:
                await exits.exits("a")
            assert any("sys.exit(3)" in note for note in caught.value.__notes__)
        with pytest.raises(BodyExited, match=r"Exits.exit_in_a_task raised SystemExit: 3"):
            await exits.exit_in_a_task("a")
        assert await exits.pid("b") == before


@pytest.mark.parametrize("method", ["stop_loop", "exit_in_a_callback"])
async def test_a_shard_whose_loop_has_ended_leaves_its_process_and_is_started_again(
    method: str, launched: LaunchedApp
) -> None:
    async with app.cluster() as cluster:
        exits = cluster.service(Exits)
        before = await exits.pid("a")
        with suppress(ClusterError, CommandError):  # its last turn may still send the result
            await getattr(exits, method)("a")

        async def is_replaced() -> bool:
            try:
                return await exits.pid("a") != before
            except ClusterError:
                return False  # its successor is on the way

        await until_so(is_replaced, timeout_s=60)
        (shard,) = [member for member in (await launched.status()).members if member.role == "shard"]
        assert shard.pid not in (0, before)
