"""Events where shards are processes: handlers run for the emitter's principal and in its trace, on whatever shard."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.database import Database
from fusion_cluster.middleware import acting_as, carrying
from fusion_shards.launch import launch
from tests.apps.heralds import DATABASE_VARIABLE, Base, Heralds, heralds_app

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

pytest_plugins = ["tests.databases"]

COUNT = 12
WAIT_S = 60


async def test_baggage_goes_through_the_outbox_from_shard_to_shard(
    ray_cluster: str, database_url: str, database: Database
) -> None:
    await database.create_tables(Base.metadata)
    environment = {DATABASE_VARIABLE: database_url}
    launched = launch("tests.apps.heralds:app", shards=2, gateways=0, environment=environment)
    async with await launched, heralds_app(database_url).cluster() as cluster, asyncio.timeout(WAIT_S):
        heralds = cluster.service(Heralds)
        for number in range(COUNT):
            with acting_as({"name": f"user {number}"}), carrying(traceparent=f"00-{number:032x}-{1:016x}-01"):
                await heralds.announce(number)
        notes = (await heralds.notes().when(lambda notes: len(notes) == COUNT)).value
    for number, (principal, traceparent, _) in enumerate(notes):
        assert principal == f'{{"name":"user {number}"}}'
        assert traceparent == f"00-{number:032x}-{1:016x}-01"
    assert any(emitter != handler for emitter, handler in (pids.split() for _, _, pids in notes))
