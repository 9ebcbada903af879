"""A client whose gateway, or whose shard, is lost while its command runs: it is carried out once, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fusion_cluster.client import Client, connect
from fusion_cluster.errors import CommandNotRecorded
from tests.apps.tills import Base, Gates, Jars, Tills, fresh_gates, jars_app, tills_app
from tests.clients import Front, fronted


@pytest.fixture
def gates() -> Gates:
    return fresh_gates()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/tills.db"


async def paid_in(client: Client, way: str) -> int:
    """Pay 5 into the till, by the session or by the plain rpc."""
    if way == "session":
        return await client.service(Tills).pay_in("bar", 5)
    result: int = await client.execute("Tills.pay_in", "bar", 5)
    return result


async def lose_gateway(front: Front) -> None:
    """Stop the gateway and its host, so that it remembers nothing, and start another at its address."""
    await front.stop()
    await front.start()


async def lose_shard(front: Front) -> None:
    shard_id = front.cluster.owner("Tills.pay_in", "bar").address.shard_id
    await front.cluster.kill_shard(shard_id)
    await front.cluster.start_shard(shard_id)


@pytest.mark.parametrize("way", ["session", "rpc"])
@pytest.mark.parametrize("lose", [lose_gateway, lose_shard])
async def test_a_committed_command_whose_answer_is_lost_is_carried_out_once_and_answered(
    url: str, gates: Gates, way: str, lose: Callable[[Front], Awaitable[None]]
) -> None:
    app = tills_app(url)
    assert app.database is not None
    await app.database.create_tables(Base.metadata)
    async with fronted(app, shards=3) as front, connect(front.address, timeout_s=20) as client:
        paying = asyncio.create_task(paid_in(client, way))
        await gates.reached.wait()
        await lose(front)
        gates.opened.set()
        assert await paying == 5
        assert gates.runs == 1
        assert await client.service(Tills).amount("bar") == 5
        assert await paid_in(client, way) == 10


async def stop_shard(front: Front) -> None:
    """As at the end of its grace: what runs is cut off, and answered."""
    front.cluster.owner("Jars.drop", 5).serving.close()


@pytest.mark.parametrize("way", ["session", "rpc"])
@pytest.mark.parametrize("lose", [lose_gateway, stop_shard])
async def test_a_retry_of_what_nobody_records_is_refused_and_not_run_again(
    gates: Gates, way: str, lose: Callable[[Front], Awaitable[None]]
) -> None:
    async with fronted(jars_app()) as front, connect(front.address, timeout_s=20) as client:
        dropping = asyncio.create_task(
            client.service(Jars).drop(5) if way == "session" else client.execute("Jars.drop", 5)
        )
        await gates.reached.wait()
        await lose(front)
        with pytest.raises(CommandNotRecorded):
            await dropping
        gates.opened.set()
        assert gates.runs == 1
