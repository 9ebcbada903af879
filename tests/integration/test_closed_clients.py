"""What a closed client says: who it was, to whoever uses it still, and to whoever is waiting when it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusion_cluster.client import Client, connect, connect_blocking
from fusion_cluster.errors import CommandOutcomeUnknown, UsageError
from tests.apps.shelf import Shelf, Stock, app, fresh_stock
from tests.clients import fronted
from tests.waiting import until

LIMIT_S = 20.0


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


USES: dict[str, Callable[[Client, Shelf], Awaitable[object]]] = {
    "hit": lambda client, shelf: shelf.count("nut"),
    "miss": lambda client, shelf: shelf.count("bolt"),
    "command": lambda client, shelf: shelf.put("nut", 1),
    "changes": lambda client, shelf: anext(shelf.count.changes("nut")),
    "call": lambda client, shelf: client.call("Shelf.count", "nut"),
    "execute": lambda client, shelf: client.execute("Shelf.put", "nut", 1),
    "watch": lambda client, shelf: anext(client.watch("Shelf.count", "nut")),
    "describe": lambda client, shelf: client.describe(),
}


async def awaited(use: Callable[[Client, Shelf], Awaitable[object]], client: Client, shelf: Shelf) -> object:
    return await use(client, shelf)


async def test_every_use_after_the_end_names_the_client(stock: Stock) -> None:
    async with fronted(app) as front:
        async with connect(front.address) as client:
            shelf = client.service(Shelf)
            assert await shelf.count("nut") == 0
        await client.close()
        for name, use in USES.items():
            with pytest.raises(UsageError, match=rf"^the client of {front.address} is closed$"):
                await asyncio.wait_for(awaited(use, client, shelf), LIMIT_S)
            assert name
        with pytest.raises(UsageError, match=rf"^the client of {front.address} is closed$"):
            client.service(Shelf)


async def test_a_client_that_was_never_opened_says_how() -> None:
    with pytest.raises(UsageError, match=r"^the client of shop\.example:50051 is not open: use it in `async with"):
        await connect("shop.example").call("Shelf.count", "nut")


async def test_a_client_is_opened_once_at_a_time_and_again_after_its_end(stock: Stock) -> None:
    async with fronted(app) as front:
        client = connect(front.address)
        for _ in range(2):
            async with client:
                with pytest.raises(UsageError, match="is open already"):
                    await client.__aenter__()
                assert await client.service(Shelf).count("nut") == 0


WAITING: dict[str, Callable[[Client, Shelf], Awaitable[object]]] = {
    "read": lambda client, shelf: shelf.forever("nut"),
    "call": lambda client, shelf: client.call("Shelf.forever", "nut"),
    "command": lambda client, shelf: shelf.slow("nut"),
    "execute": lambda client, shelf: client.execute("Shelf.slow", "nut"),
    "second change": lambda client, shelf: second(shelf.count.changes("nut")),
    "second update": lambda client, shelf: second(client.watch("Shelf.count", "nut")),
}


async def second(iterator: Any) -> object:
    await anext(iterator)
    return await anext(iterator)


@pytest.mark.parametrize("way", WAITING)
async def test_what_waits_when_the_client_closes_ends_with_an_error_that_names_it(way: str, stock: Stock) -> None:
    async with fronted(app) as front:
        try:
            async with connect(front.address, timeout_s=None) as client:
                shelf = client.service(Shelf)
                assert await client.call("Shelf.count", "bolt") == 0
                assert await shelf.count("bolt") == 0
                waiting = asyncio.ensure_future(WAITING[way](client, shelf))
                if way.startswith("second"):
                    await until(lambda: "nut" in stock.computed, timeout_s=LIMIT_S)
                    await asyncio.wait([waiting], timeout=0.05)
                else:
                    await until(lambda: stock.waiting or stock.executed, timeout_s=LIMIT_S)
            kind = CommandOutcomeUnknown if way in ("command", "execute") else UsageError
            words = "may or may not have been carried out" if kind is CommandOutcomeUnknown else front.address
            with pytest.raises(kind, match=words):
                await asyncio.wait_for(waiting, LIMIT_S)
        finally:
            stock.gate.set()


async def test_what_is_cancelled_by_its_caller_is_still_cancelled(stock: Stock) -> None:
    async with fronted(app) as front, connect(front.address) as client:
        assert await client.call("Shelf.count", "bolt") == 0
        waiting = asyncio.ensure_future(client.call("Shelf.forever", "nut"))
        await until(lambda: stock.waiting, timeout_s=LIMIT_S)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        stock.gate.set()


async def test_a_blocking_client_says_the_same(stock: Stock) -> None:
    async with fronted(app) as front:
        await asyncio.to_thread(use_a_blocking_client_to_its_end, front.address)


def use_a_blocking_client_to_its_end(address: str) -> None:
    closed = rf"^the client of {address} is closed$"
    with connect_blocking(address) as client, ThreadPoolExecutor(1) as pool:
        shelf = client.service(Shelf)
        changes, updates = shelf.count.changes("nut"), client.watch("Shelf.count", "nut")
        assert next(iter(changes)).value == next(updates).value == 0  # type: ignore[call-overload]
        waiting = pool.submit(next, updates)
        client.__exit__(None, None, None)
        with pytest.raises(UsageError, match=address):
            waiting.result(LIMIT_S)
    uses: tuple[Callable[[], object], ...] = (
        lambda: shelf.count("nut"),
        lambda: shelf.put("nut", 1),
        lambda: client.call("Shelf.count", "nut"),
        lambda: client.service(Shelf),
        lambda: next(iter(changes)),  # type: ignore[call-overload]
        lambda: next(client.watch("Shelf.count", "nut")),
    )
    for use in uses:
        with pytest.raises(UsageError, match=closed):
            use()
