"""Gateways in front of several shards: what clients see when shards die, and what watchers cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest

from fusion_cluster.client import connect
from fusion_cluster.v1 import gateway_pb2, gateway_pb2_grpc
from tests.apps.shelf import Shelf, Stock, app, fresh_stock
from tests.clients import Front, fronted
from tests.gateways import call_request, execute_request
from tests.waiting import until


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def front(stock: Stock) -> AsyncIterator[Front]:
    async with fronted(app, shards=3) as front:
        yield front


@pytest.fixture
async def stub(front: Front) -> AsyncIterator[gateway_pb2_grpc.GatewayAsyncStub]:
    async with grpc.aio.insecure_channel(front.address) as channel:
        yield gateway_pb2_grpc.GatewayStub(channel)


async def next_value(watch: grpc.aio.UnaryStreamCall[gateway_pb2.WatchRequest, gateway_pb2.Update]) -> object:
    update = await asyncio.wait_for(watch.read(), 10)
    assert isinstance(update, gateway_pb2.Update)
    assert not update.HasField("error")
    return json.loads(update.value.json)


async def test_a_watch_survives_the_death_of_the_shard_that_owns_its_key(
    front: Front, stub: gateway_pb2_grpc.GatewayAsyncStub
) -> None:
    watch = stub.Watch(gateway_pb2.WatchRequest(call=call_request("Scales.weight", "nut")))
    assert await next_value(watch) == 0.0
    for name, count in (("Scales.weight", 2), ("Shelf.count", 4)):
        shard_id = front.cluster.owner(name, "nut").address.shard_id
        await front.cluster.kill_shard(shard_id)
        await front.cluster.start_shard(shard_id)
        await stub.Execute(execute_request("Shelf.put", "nut", count))
        assert await next_value(watch) == count / 2
    watch.cancel()


async def test_a_change_through_one_gateway_is_seen_through_the_other(
    front: Front, stub: gateway_pb2_grpc.GatewayAsyncStub
) -> None:
    other = Front(front.cluster, name="other")
    await other.start()
    async with connect(other.address) as client:
        shelf = client.service(Shelf)
        for count in range(1, 20):
            assert await shelf.count("nut") == count - 1
            await stub.Execute(execute_request("Shelf.put", "nut", count))
            replica = shelf.count.peek("nut")
            assert replica is None or replica.value == count, "Execute returned before this replica was told"
            assert await shelf.count("nut") == count
    await other.stop()


async def test_many_watchers_cost_one_subscription_and_one_computation_per_change(
    front: Front, stub: gateway_pb2_grpc.GatewayAsyncStub, stock: Stock
) -> None:
    request = gateway_pb2.WatchRequest(call=call_request("Shelf.count", "nut"))
    watches = [stub.Watch(request) for _ in range(1_000)]
    assert set(await asyncio.gather(*map(next_value, watches))) == {0}
    assert sum(shard.serving.subscription_count for shard in front.cluster.shards.values()) == 1
    await stub.Execute(execute_request("Shelf.put", "nut", 1))
    assert set(await asyncio.gather(*map(next_value, watches))) == {1}
    assert stock.computed == ["nut", "nut"]
    for watch in watches:
        watch.cancel()
    await until(lambda: front.gateway is not None and front.gateway.watch_count == 0)


async def test_many_clients_of_one_key_cost_the_shard_one_subscription(front: Front, stock: Stock) -> None:
    async with AsyncExitStack() as stack:
        shelves = [(await stack.enter_async_context(connect(front.address))).service(Shelf) for _ in range(20)]
        assert [await shelf.count("nut") for shelf in shelves] == [0] * 20
        assert sum(shard.serving.subscription_count for shard in front.cluster.shards.values()) == 1
        await shelves[0].put("nut", 1)
        assert [await shelf.count("nut") for shelf in shelves] == [1] * 20
        assert stock.computed == ["nut", "nut"]


async def test_a_stopping_gateway_ends_sessions_with_a_retryable_status(front: Front) -> None:
    async with grpc.aio.insecure_channel(front.address) as channel:
        open_session: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/fusion_cluster.v1.Gateway/Session"
        )
        session = open_session()
        await session.read()  # the challenge
        await front.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_to_the_end(session)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def read_to_the_end(session: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
    while await session.read() is not grpc.aio.EOF:
        pass


async def test_a_client_keeps_reading_while_shards_die(front: Front) -> None:
    async with connect(front.address) as client:
        shelf = client.service(Shelf)
        names = [f"nut {index}" for index in range(30)]
        for round_number in range(1, 4):
            for name in names:
                await shelf.put(name, round_number)
            shard_id = round_number % 3
            await front.cluster.kill_shard(shard_id)
            reading = asyncio.gather(*map(_read, [shelf] * len(names), names))
            await asyncio.sleep(0)
            await front.cluster.start_shard(shard_id)
            assert await reading == [round_number] * len(names)


async def _read(shelf: Shelf, name: str) -> int:
    return await shelf.count(name)
