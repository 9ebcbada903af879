"""Events reach their handlers: at least once, in order, each effect once."""

from __future__ import annotations

from fusion_cluster import Database
from tests.unit.events.orders import Ledger, Orders, entries, orders_host, until_delivered

pytest_plugins = ["tests.databases"]


async def test_an_event_reaches_its_handler_after_the_commit(database: Database) -> None:
    async with orders_host(database) as host:
        await host.service(Orders).place(1, [7])
        await until_delivered(database)
        assert await entries(database) == [7]
        assert await host.service(Ledger).entries(1) == [7]


async def test_x(database: Database) -> None:
    async with orders_host(database) as host:
        for n in range(20):
            await host.service(Orders).place(n % 4, list(range(5 * n, 5 * n + 5)))
        await until_delivered(database)
        for o in range(4):
            assert await entries(database, o) == [x for n in range(o, 20, 4) for x in range(5 * n, 5 * n + 5)]
