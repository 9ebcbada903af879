"""`Watch` over a real gRPC server: the value now and after each change, for as long as the client stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import msgspec
import pytest

from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.reads import VERSION_BYTES, update_content
from tests.apps.shelf import UNREACHABLE, Shelf, Stock, app, fresh_stock
from tests.gateways import Served, field_of, msgpack_payload, serving_locally
from tests.waiting import until

WatchCall = grpc.aio.UnaryStreamCall[gateway_pb2.WatchRequest, gateway_pb2.Update]


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def served(stock: Stock) -> AsyncIterator[Served]:
    async with serving_locally(app) as served:
        yield served
        await until(lambda: served.gateway.watch_count == 0, what="the end of every watch")


async def next_update(watch: WatchCall) -> gateway_pb2.Update:
    update = await asyncio.wait_for(watch.read(), 5)
    assert isinstance(update, gateway_pb2.Update)
    return update


async def next_value(watch: WatchCall) -> object:
    return json.loads((await next_update(watch)).value.json)


async def test_a_watch_gives_the_value_now_and_after_each_change(served: Served) -> None:
    watch = served.watch("Shelf.count", "nut")
    assert await next_value(watch) == 0
    for count in (3, 1, 4):
        await served.execute("Shelf.put", "nut", count)
        assert await next_value(watch) == count
    watch.cancel()


async def test_an_update_has_the_version_of_the_value(served: Served) -> None:
    watch = served.watch("Shelf.count", "nut")
    first = await next_update(watch)
    await served.execute("Shelf.put", "nut", 1)
    second = await next_update(watch)
    assert 0 != first.version != second.version != 0
    watch.cancel()


async def test_a_change_beneath_a_dependency_is_seen(served: Served) -> None:
    watch = served.watch("Shelf.item", "nut")
    assert await next_value(watch) is None
    await served.execute("Shelf.put", "nut", 2)
    assert await next_value(watch) == {"name": "nut", "count": 2, "price": "1.5"}
    watch.cancel()


async def test_an_invalidation_that_changes_nothing_is_not_sent(served: Served, stock: Stock) -> None:
    watch = served.watch("Shelf.count", "nut")
    assert await next_value(watch) == 0
    await served.execute("Shelf.put", "nut", 0)
    await until(lambda: len(stock.computed) == 2)
    await served.execute("Shelf.put", "nut", 5)
    assert await next_value(watch) == 5
    watch.cancel()


async def test_a_slow_client_skips_what_is_between_and_ends_on_the_last_value(served: Served, stock: Stock) -> None:
    big = "nut" * 100_000  # two updates fill the windows of the connection
    shelf = served.host.service(Shelf)
    request = gateway_pb2.CallRequest(service="Shelf", method="item", arguments=msgpack_payload(big))
    stock.counts[big] = 1
    watch = served.stub.Watch(gateway_pb2.WatchRequest(call=request))
    await next_update(watch)
    for count in range(2, 500):
        await shelf.put(big, count)
        await asyncio.sleep(0)  # the gateway may send, if the client lets it
    updates = 1
    while await _count(watch) != 499:
        updates += 1
    assert updates < 400
    watch.cancel()


async def _count(watch: WatchCall) -> int:
    item = msgspec.msgpack.decode((await next_update(watch)).value.msgpack)
    return int(item["count"])


async def test_changes_within_the_interval_are_merged(served: Served) -> None:
    watch = served.watch("Shelf.count", "nut", min_interval_ms=300)
    assert await next_value(watch) == 0
    began = asyncio.get_running_loop().time()
    for count in (1, 2, 3):
        await served.execute("Shelf.put", "nut", count)
    assert await next_value(watch) == 3
    assert asyncio.get_running_loop().time() - began > 0.2
    watch.cancel()


async def test_an_error_is_an_update_and_the_watch_goes_on(served: Served, stock: Stock) -> None:
    stock.failures.append(ValueError("out of order"))
    watch = served.watch("Shelf.flaky", "nut")
    update = await next_update(watch)
    assert update.error.message == "out of order"
    assert update.error.code == grpc.StatusCode.UNKNOWN.value[0]
    assert not update.HasField("value")
    await served.host.service(Shelf).flaky.invalidate("nut")
    assert await next_value(watch) == 0
    watch.cancel()


async def test_transient_cluster_errors_are_waited_out_without_the_client_noticing(
    served: Served, stock: Stock
) -> None:
    stock.failures.extend([UNREACHABLE, UNREACHABLE, UNREACHABLE])
    watch = served.watch("Shelf.flaky", "nut")
    assert await next_value(watch) == 0
    assert not stock.failures
    watch.cancel()


async def test_a_value_that_cannot_be_sent_is_an_internal_error_in_an_update(served: Served) -> None:
    watch = served.watch("Shelf.unknown")
    update = await next_update(watch)
    assert update.error.code == grpc.StatusCode.INTERNAL.value[0]
    watch.cancel()


async def test_a_watch_of_nothing_is_refused(served: Served) -> None:
    watch = served.watch("Shelf.nowhere")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = served.watch("Shelf.count", 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(caught.value) == "name"


async def test_a_watch_ends_when_the_client_leaves(served: Served, stock: Stock) -> None:
    watches = [served.watch("Shelf.forever", "nut"), served.watch("Shelf.count", "nut")]
    await next_update(watches[1])
    await until(lambda: stock.waiting == 1)
    assert served.gateway.watch_count == 2
    for watch in watches:
        watch.cancel()
    await until(lambda: served.gateway.watch_count == 0)
    await until(lambda: stock.waiting == 0, what="the end of a computation that nobody waits for")


async def test_many_watchers_of_one_key_cost_one_computation_per_change(served: Served, stock: Stock) -> None:
    watches = [served.watch("Shelf.count", "nut") for _ in range(200)]
    assert set(await asyncio.gather(*map(next_value, watches))) == {0}
    await served.execute("Shelf.put", "nut", 1)
    assert set(await asyncio.gather(*map(next_value, watches))) == {1}
    assert stock.computed == ["nut", "nut"]
    for watch in watches:
        watch.cancel()


async def test_a_stopping_gateway_ends_watches_with_a_retryable_status(served: Served) -> None:
    watch = served.watch("Shelf.count", "nut")
    await next_update(watch)
    await served.gateway.stop(0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_reply_is_an_update() -> None:
    payload = gateway_pb2.Payload(json="3")
    reply = gateway_pb2.CallReply(value=payload, version=2**63 + 5).SerializeToString()
    assert gateway_pb2.Update.FromString(reply) == gateway_pb2.Update(value=payload, version=2**63 + 5)
    assert update_content(reply) == reply[:-VERSION_BYTES]
    assert update_content(reply) == update_content(gateway_pb2.Update(value=payload, version=7).SerializeToString())
    error = gateway_pb2.Update(error={"code": 2, "message": "no"}).SerializeToString()
    assert update_content(error) == error
