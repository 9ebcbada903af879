"""Invalidations on their way to the owners of keys: they get there, or somebody is told that they do not."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.errors import ShardUnavailable, UnknownMethod
from fusion_cluster.graph import Key
from fusion_cluster.graph.why.cause import UNKNOWN
from fusion_cluster.link.acceptor import AcceptorLimits
from fusion_cluster.protocol.limits import SessionLimits
from fusion_cluster.testing import LocalCluster
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE
from fusion_router.member import Member
from tests.apps.sheet import Cells, Store, app, fresh_store
from tests.waiting import until


@pytest.fixture
def store() -> Store:
    return fresh_store()


class Texts(ComputeService):
    @compute_method
    async def length(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize("barrier", [False, True])
async def test_more_keys_than_one_message_holds_reach_their_owner(barrier: bool) -> None:
    async with LocalCluster(App("texts", [Texts]), shards=1) as cluster:
        texts = cluster.service(Texts)
        arguments = [str(number) * (MAX_PAYLOAD_SIZE // 5) for number in range(7)]
        read = [texts.length(argument) for argument in arguments]
        for node in read:
            await node
        owner = cluster.shards[0].host.service(Texts)
        await cluster.new_host("writer").publish(
            {Key("Texts", "length", (text,)): UNKNOWN for text in arguments}, barrier
        )
        assert not any(owner.length.peek(argument) for argument in arguments)
        if barrier:
            assert not any(node.is_consistent for node in read)


async def test_an_owner_that_has_too_much_to_do_is_told_again(store: Store) -> None:
    async with LocalCluster(app, shards=1) as cluster:
        # Looked at when a session begins: the writer's holds one call at a time.
        cluster.shards[0].acceptor._limits = AcceptorLimits(session=SessionLimits(max_calls=1, retry_after_ms=1))
        cells = cluster.new_host("writer").service(Cells)
        assert await cells.get(3) == 0
        store.cells[3] = 5
        in_the_way = asyncio.create_task(cells.forever(1).update())
        await until(lambda: "forever 1" in store.computed)
        invalidated = asyncio.ensure_future(cells.get.invalidate(3))
        done, _ = await asyncio.wait([invalidated], timeout=0.1)
        assert not done
        in_the_way.cancel()
        await invalidated
        assert await cells.get(3) == 5


@pytest.mark.parametrize("barrier", [False, True])
async def test_the_refusal_of_an_owner_is_the_publishers(store: Store, barrier: bool) -> None:
    async with LocalCluster(app, shards=1) as cluster:
        owner = cluster.shards[0].host
        del owner.graph.functions["Cells.get"]  # as in a process with another version of the app
        with pytest.raises(UnknownMethod):
            await cluster.host.publish({Key("Cells", "get", (3,)): UNKNOWN}, barrier)
        owner.graph.add(cluster.host.function("Cells.get"))


async def test_a_member_that_leaves_ends_what_waits_for_it(store: Store) -> None:
    async with LocalCluster(app, shards=1, call_timeout_s=60.0) as cluster:
        leaving = cluster.new_host("leaving")
        cells = leaving.service(Cells)
        await cluster.kill_shard(0)
        execution = asyncio.create_task(cells.put(3, 1))
        invalidation = asyncio.ensure_future(cells.get.invalidate(3))
        await asyncio.sleep(0)
        async with asyncio.timeout(5.0):
            await Member(leaving).stop()
            for waiting in (execution, invalidation):
                with pytest.raises(ShardUnavailable):
                    await waiting


@pytest.mark.parametrize("barrier", [False, True])
async def test_a_member_leaves_whatever_begins_while_it_does(store: Store, barrier: bool) -> None:
    """Commands that were committing when they were cancelled, for one."""
    async with LocalCluster(app, shards=2, call_timeout_s=60.0) as cluster:
        leaving = cluster.new_host("leaving")
        cells = [Key("Cells", "get", (cell,)) for cell in range(20)]
        for cell in range(20):  # it has links to close
            await leaving.service(Cells).get(cell)
        await cluster.kill_shard(0)
        begun: list[asyncio.Future[None]] = []

        async def begin_again_and_again() -> None:
            while True:
                begun.append(asyncio.ensure_future(leaving.publish(dict.fromkeys(cells, UNKNOWN), barrier)))
                await asyncio.sleep(0)

        beginning = asyncio.create_task(begin_again_and_again())
        await until(lambda: len(begun) > 3)
        before = len(begun)
        async with asyncio.timeout(5.0):
            await Member(leaving).stop()
            assert len(begun) > before + 3
            for publication in begun:
                with pytest.raises(ShardUnavailable, match="left"):
                    await publication
        beginning.cancel()
        assert not any(leaving.service(Cells).get.peek(cell) for cell in range(20)), (
            "it is invalidated here all the same"
        )


async def test_what_is_told_when_the_links_are_closed_is_told_no_more(store: Store) -> None:
    async with LocalCluster(app, shards=1, call_timeout_s=60.0) as cluster:
        leaving = cluster.new_host("leaving")
        await cluster.kill_shard(0)
        publication = asyncio.ensure_future(leaving.publish({Key("Cells", "get", (3,)): UNKNOWN}, True))
        async with asyncio.timeout(5.0):
            await leaving.links.close()
            await leaving.publications.close()
        assert not publication.done()
        await Member(leaving).stop()
        with pytest.raises(ShardUnavailable, match="left"):
            await publication
