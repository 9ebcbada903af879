from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.errors import CommandError, ShardUnavailable
from fusion_cluster.host import LocalHost
from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.reads import Read
from fusion_router.gateway.watching import Watch
from tests.apps.shelf import Shelf, Stock, app, fresh_stock
from tests.waiting import until


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def host(stock: Stock) -> AsyncIterator[LocalHost]:
    async with app.local() as host:
        yield host
        host.graph.validate()


class Client:
    """Takes updates, unless it is told to stall."""

    def __init__(self) -> None:
        self.updates: list[gateway_pb2.Update] = []
        self.may_take = asyncio.Event()
        self.may_take.set()

    async def __call__(self, update: bytes) -> None:
        await self.may_take.wait()
        self.updates.append(gateway_pb2.Update.FromString(update))

    @property
    def seen(self) -> list[str]:
        return [update.value.json or update.error.message for update in self.updates]


def watching(
    host: LocalHost, client: Client, method: str = "count", outage_notice_s: float = 10.0
) -> asyncio.Task[None]:
    read = Read(host.function(f"Shelf.{method}"), ("nut",), "json")
    watch = Watch(read, f"Shelf.{method}", client, outage_notice_s=outage_notice_s)
    return asyncio.create_task(watch.run())


async def test_a_client_that_stalls_gets_the_last_value_only(host: LocalHost) -> None:
    client = Client()
    task = watching(host, client)
    await until(lambda: client.seen == ["0"])
    client.may_take.clear()
    for count in range(1, 50):
        await host.service(Shelf).put("nut", count)
        await asyncio.sleep(0)
    client.may_take.set()
    await until(lambda: client.seen[-1] == "49")
    assert len(client.updates) <= 3, "the value, the one that was stuck, the last"
    task.cancel()


async def test_an_outage_that_lasts_is_told_once(host: LocalHost, stock: Stock) -> None:
    client = Client()
    stock.failures.extend(ShardUnavailable("gone", retry_after_s=0.001) for _ in range(6))
    task = watching(host, client, "flaky", outage_notice_s=0.05)
    await until(lambda: client.seen == ["gone", "0"])
    task.cancel()


async def test_an_error_that_is_not_kept_is_tried_again_with_pauses(host: LocalHost, stock: Stock) -> None:
    client = Client()
    stock.failures.extend(CommandError("not now") for _ in range(3))
    task = watching(host, client, "flaky")
    await until(lambda: client.seen == ["not now", "0"])
    task.cancel()


async def test_a_watch_that_is_cancelled_leaves_no_computation(host: LocalHost, stock: Stock) -> None:
    task = watching(host, Client(), "forever")
    await until(lambda: stock.waiting == 1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await until(lambda: stock.waiting == 0)


async def test_a_computation_that_is_cancelled_does_not_end_the_watch(host: LocalHost, stock: Stock) -> None:
    client = Client()
    cancelled = asyncio.CancelledError()
    stock.failures.append(cancelled)  # type: ignore[arg-type]
    task = watching(host, client, "flaky")
    await until(lambda: client.seen == ["0"])
    task.cancel()
