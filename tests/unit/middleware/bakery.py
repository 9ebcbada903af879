"""A bakery for the tests of middleware: bodies of all kinds, and an app with any middleware around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from fusion_cluster import (
    App,
    Call,
    ComputeService,
    Database,
    Middleware,
    Next,
    RayTask,
    command,
    compute_method,
    gather,
)
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Base, Shelves, Stock

customer: ContextVar[str] = ContextVar("customer", default="nobody")


class Bakery(ComputeService):
    """Prices, and what is made of them. `errors` are raised by `flaky` and `order`, first to last."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.prices = {"roll": 2, "cake": 20}
        self.errors: list[Exception] = []
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()

    @compute_method
    async def price(self, product: str) -> int:
        self.log.append(f"price({product})")
        return self.prices[product]

    @compute_method
    async def total(self, product: str, *, count: int = 1, coupon: str = "") -> int:
        self.log.append(f"total({product})")
        return await self.price(product) * count - len(coupon)

    @compute_method
    async def both(self) -> int:
        return sum(await gather(self.price("roll"), self.price("cake")))

    @compute_method
    def in_cents(self, product: str) -> int:
        return 100 * self.prices[product]

    @compute_method(offload="thread")
    def receipt(self, product: str) -> str:
        return f"{product}: {self.price(product)}, {customer.get()}"

    @compute_method(offload="thread")
    async def letter(self, product: str) -> str:
        return f"{product} costs {await self.price(product)}, {customer.get()}"

    @compute_method(offload=RayTask(num_cpus=1))
    def heavy(self, number: int) -> int:
        return number * number % 2**63  # what can travel

    @compute_method(consolidation_delay=0)
    async def is_cheap(self, product: str) -> bool:
        return await self.price(product) < 10

    @compute_method(transient_error_delay=3600, error_delay=3600)
    async def flaky(self) -> str:
        self.log.append("flaky")
        if self.errors:
            raise self.errors.pop(0)
        return "well"

    @compute_method(transient_error_delay=3600, error_delay=3600)
    async def above(self) -> str:
        self.log.append("above")
        return await self.flaky()

    @compute_method
    async def held(self, number: int) -> int:
        self.entered.set()
        await self.gate.wait()
        return number

    @command
    async def set_price(self, product: str, price: int) -> int:
        self.log.append(f"set_price({product})")
        before = self.prices.get(product, 0)
        self.prices[product] = price
        self.price.invalidate(product)
        return before

    @command
    async def set_prices(self, prices: dict[str, int]) -> None:
        for product, price in prices.items():
            await self.set_price(product, price)

    @command
    async def order(self, product: str) -> str:
        self.log.append(f"order({product})")
        if self.errors:
            raise self.errors.pop(0)
        return f"one {product} for {customer.get()}"

    @command
    async def close(self) -> None:
        self.entered.set()
        await self.gate.wait()


class Recorder:
    """Middleware that keeps the calls that pass, and lets a test do what it wants with each."""

    def __init__(self, act: Callable[[Call, Next], Awaitable[Any]] | None = None) -> None:
        self.calls: list[Call] = []
        self._act = act

    async def __call__(self, call: Call, next: Next) -> Any:
        self.calls.append(call)
        return await (next(call) if self._act is None else self._act(call, next))

    @property
    def names(self) -> list[str]:
        return [str(call) for call in self.calls]


@asynccontextmanager
async def baking(*middleware: Middleware) -> AsyncIterator[Bakery]:
    """The bakery of an app with this middleware; its graph is checked at the end."""
    async with App("bakery", services=[Bakery], middleware=middleware).local() as host:
        yield host.service(Bakery)
        host.graph.validate()


@asynccontextmanager
async def shelving(folder: Path, *middleware: Middleware) -> AsyncIterator[LocalHost]:
    """An app whose commands change a database, with middleware around them."""
    database = Database(f"sqlite:///{folder}/shelves.db")
    await database.create_tables(Base.metadata)
    async with App("shelves", services=[Shelves, Stock], database=database, middleware=middleware).local() as host:
        yield host
        host.graph.validate()
