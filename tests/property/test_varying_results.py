"""E.13: two principals never share a value that depends on who asks, and all share one that does not."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from fusion_cluster.middleware import acting_as
from fusion_cluster.testing import LocalCluster
from tests.apps.mailboxes import Boxes, app, fresh_post

READERS = ["ann", "bob", None, 3, {"name": "cy"}]
BOXES = range(8)
METHODS = ["read", "even", "odd", "calm"]


async def ask(service: Boxes, method: str, box: int, reader: object) -> str:
    with acting_as(reader):
        return str(await getattr(service, method)(box))


@pytest.mark.parametrize("shards", [0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
async def test_nobody_is_given_what_was_computed_for_another(seed: int, shards: int) -> None:
    rng = random.Random(seed)
    post = fresh_post()
    post.private = set(rng.sample(BOXES, rng.randint(0, 3)))
    post.beneath = {box: rng.sample(BOXES[box + 1 :], rng.randint(0, min(2, 7 - box))) for box in BOXES}

    async def rounds(services: list[Boxes]) -> None:
        for _ in range(6):
            reads = []
            for _ in range(25):
                case = rng.choice(METHODS), rng.choice(BOXES), rng.choice(READERS)
                reads.append((case, asyncio.create_task(ask(rng.choice(services), *case))))
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                if rng.random() < 0.1:
                    reads.pop(rng.randrange(len(reads)))[1].cancel()
            async with asyncio.timeout(20):
                results = await asyncio.gather(*(read for _, read in reads))
            for ((method, box, reader), _), result in zip(reads, results, strict=True):
                expected = post.expected(box, reader)
                if method == "calm":  # which may lag behind changes, but not mistake readers
                    result, expected = re.sub("#[0-9]+", "", result), re.sub("#[0-9]+", "", expected)
                assert result == expected, (method, box, reader)
            await rng.choice(services).put(rng.choice(BOXES))

    if not shards:
        async with app.local() as host:
            await rounds([host.service(Boxes)])
            host.graph.validate()
        return
    async with LocalCluster(app, shards=shards, call_timeout_s=30.0) as cluster:
        members = [cluster.host, *(shard.host for shard in cluster.shards.values())]
        await rounds([member.service(Boxes) for member in members])


async def test_what_does_not_vary_is_computed_once_for_all() -> None:
    post = fresh_post()
    post.beneath = {0: [1, 2], 1: [2]}
    async with LocalCluster(app, shards=3) as cluster:
        boxes = cluster.service(Boxes)
        for reader in READERS:
            assert await ask(boxes, "read", 0, reader) == post.expected(0, reader)
    assert sorted(post.log) == ["0", "1", "2"]


async def test_what_varies_is_kept_for_each_across_shards() -> None:
    post = fresh_post()
    post.private = {2}
    post.beneath = {0: [1, 2], 1: [2]}
    async with LocalCluster(app, shards=3) as cluster:
        boxes = cluster.service(Boxes)
        for reader in READERS:
            assert await ask(boxes, "read", 0, reader) == post.expected(0, reader)
        post.log.clear()
        for reader in READERS:
            assert await ask(boxes, "read", 0, reader) == post.expected(0, reader)
        assert post.log == []
        await boxes.put(2)
        for reader in READERS:
            assert await ask(boxes, "read", 0, reader) == post.expected(0, reader)
        with acting_as("ann"):
            assert await boxes.whose(5) == "ann"


async def test_after_a_shard_is_back_nobody_is_given_anothers() -> None:
    """The new process has not seen yet that the method varies; the others have."""
    post = fresh_post()
    post.private = {2}
    post.beneath = {0: [1, 2], 1: [2]}
    async with LocalCluster(app, shards=2, call_timeout_s=30.0) as cluster:
        boxes = cluster.service(Boxes)
        for _ in range(2):
            for shard_id in (0, 1):
                for reader in READERS:
                    assert await ask(boxes, "read", 0, reader) == post.expected(0, reader)
                await cluster.kill_shard(shard_id)
                await cluster.start_shard(shard_id)
        results = await asyncio.gather(*(ask(boxes, "read", 0, reader) for reader in READERS))
        assert results == [post.expected(0, reader) for reader in READERS]
