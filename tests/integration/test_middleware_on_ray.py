"""Middleware where shards are processes: each has its own, around the bodies that it runs."""

from __future__ import annotations

import asyncio
import os

import pytest

from fusion_cluster import PermissionDenied
from fusion_cluster.middleware import acting_as
from fusion_shards.launch import launch
from tests.apps.stamps import Letters, app, timing

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

WAIT_S = 60


async def test_middleware_is_around_bodies_in_the_processes_of_shards(ray_cluster: str) -> None:
    async with await launch("tests.apps.stamps:app", shards=2, gateways=0), app.cluster() as cluster:
        letters = cluster.service(Letters)
        async with asyncio.timeout(WAIT_S):
            counts = {}
            for number in range(12):
                body, stamped = await letters.letter(number)
                assert await letters.send(number) == [body, stamped] == [body, body]
                assert await letters.letter(number) == [body, body]
                counts[body] = await letters.counts(number)
            assert len(counts) == 2
            assert sum(count["Letters.letter"] for count in counts.values()) == 12
            assert os.getpid() not in counts
            assert timing.methods == {}, "of the driver, which runs no bodies"

            worker, stamped = await letters.heavy(1)
            assert stamped in counts, "around a task middleware is in the process that waits for it"
            assert worker not in counts

            with acting_as("Ann"):
                await letters.burn(1)
            with pytest.raises(PermissionDenied, match=r"Letters\.burn is not permitted"):
                await letters.burn(1)
