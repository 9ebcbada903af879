"""The untyped client: methods by their names, over the gateway's plain rpcs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal

import pytest

from fusion_cluster.client import Client, Update, connect
from fusion_cluster.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ShardUnavailable,
    UnknownMethod,
    UnknownService,
)
from tests.apps.shelf import Stock, app, fresh_stock
from tests.clients import Front, fronted
from tests.waiting import until


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def front(stock: Stock) -> AsyncIterator[Front]:
    async with fronted(app) as front:
        yield front


@pytest.fixture
async def client(front: Front) -> AsyncIterator[Client]:
    async with connect(front.address, timeout_s=5.0) as client:
        yield client


async def test_reads_and_commands_by_name(client: Client, stock: Stock) -> None:
    assert await client.execute("Shelf.put", "nut", 3) == 0
    assert await client.call("Shelf.count", "nut") == 3
    assert await client.call("Shelf.item", "nut", Decimal("2.25")) == {"name": "nut", "count": 3, "price": "2.25"}


async def test_a_command_id_given_again_runs_nothing(client: Client, stock: Stock) -> None:
    for _ in range(2):
        assert await client.execute("Shelf.put", "nut", 3, command_id="one") == 0
    assert stock.executed == ["nut"]


async def test_wrong_names_and_arguments_are_told_apart(client: Client) -> None:
    with pytest.raises(UnknownService):
        await client.call("Nowhere.count", "nut")
    with pytest.raises(UnknownMethod):
        await client.call("Shelf.nowhere")
    with pytest.raises(InvalidArgument) as caught:
        await client.call("Shelf.count", 1)
    assert caught.value.field == "name"
    with pytest.raises(InvalidArgument, match=r"Service\.method"):
        await client.call("count", "nut")
    with pytest.raises(ValueError, match="no luck here"):
        await client.call("Shelf.fail", "luck")


async def test_a_watch_gives_updates(client: Client) -> None:
    async with aclosing(client.watch("Shelf.count", "nut")) as updates:
        first = await anext(updates)
        assert first.value == 0
        assert first.error is None
        await client.execute("Shelf.put", "nut", 4)
        second = await anext(updates)
        assert second.value == 4
        assert first.version != second.version


async def test_an_error_in_a_watch_is_an_update_whose_value_raises(client: Client, stock: Stock) -> None:
    stock.failures.append(ValueError("out of order"))
    async with aclosing(client.watch("Shelf.flaky", "nut")) as updates:
        update = await anext(updates)
        assert isinstance(update.error, ValueError)
        with pytest.raises(ValueError, match="out of order"):
            _ = update.value


async def test_a_watch_goes_on_after_the_gateway_came_back_and_repeats_nothing(client: Client, front: Front) -> None:
    seen: list[Update] = []

    async def watch() -> None:
        async for update in client.watch("Shelf.count", "nut"):
            seen.append(update)  # noqa: PERF401 - as they come

    watching = asyncio.create_task(watch())
    await until(lambda: len(seen) == 1)
    await front.stop()
    await front.start()
    await client.execute("Shelf.put", "nut", 1)
    await until(lambda: [update.value for update in seen] == [0, 1])
    watching.cancel()


async def test_a_watch_that_is_left_ends_at_the_gateway(client: Client, front: Front) -> None:
    async with aclosing(client.watch("Shelf.count", "nut")) as updates:
        await anext(updates)
    assert front.gateway is not None
    await until(lambda: front.gateway is not None and front.gateway.watch_count == 0)


async def test_describe(client: Client) -> None:
    description = await client.describe()
    assert description.app == "shelf"
    assert [service.name for service in description.services] == ["Shelf", "Scales"]
    with pytest.raises(UnknownService):
        await client.describe("Nowhere")


async def test_a_gateway_that_is_not_there_is_waited_for_until_the_deadline(front: Front) -> None:
    await front.stop()
    async with connect(front.address, timeout_s=0.3) as client:
        with pytest.raises(ShardUnavailable):
            await client.call("Shelf.count", "nut")
        with pytest.raises(ShardUnavailable):
            await client.execute("Shelf.put", "nut", 1)
        with pytest.raises(ShardUnavailable):
            await anext(client.watch("Shelf.count", "nut"))


async def test_a_read_that_takes_too_long_ends_at_its_deadline(front: Front, stock: Stock) -> None:
    async with connect(front.address, timeout_s=0.3) as client:
        with pytest.raises(DeadlineExceeded):
            await client.call("Shelf.forever", "nut")
    await until(lambda: stock.waiting == 0)


async def test_a_command_that_takes_too_long_is_cancelled_and_can_be_asked_for_again(
    front: Front, stock: Stock
) -> None:
    async with connect(front.address, timeout_s=2.0) as client:
        with pytest.raises(DeadlineExceeded, match="nothing is committed"):
            await client.execute("Shelf.slow", "nut", command_id="one")
        stock.gate.set()
        assert await client.execute("Shelf.slow", "nut", command_id="one") == "done nut"
    assert stock.executed == ["nut", "nut"]  # the first run was cut off
