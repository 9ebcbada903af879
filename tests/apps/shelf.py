"""A small app for tests of the gateway and its clients: all kinds of arguments, results and failures."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.errors import InvariantViolation, Overloaded, ShardUnavailable


@dataclass(frozen=True)
class Item:
    name: str
    count: int
    price: Decimal


@dataclass(frozen=True)
class Query:
    tags: tuple[str, ...]
    below: Decimal | None = None


class Unknown:
    """A type that no encoding knows."""


class Stock:
    """The data, outside the graph."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.computed: list[str] = []
        self.executed: list[str] = []
        # Errors to raise from `flaky`, first to last.
        self.failures: list[Exception] = []
        # Set to hold up the command `slow`.
        self.gate = asyncio.Event()
        self.waiting = 0


class Shelf(ComputeService):
    """What stands on the shelf.

    More about it.
    """

    stock: ClassVar[Stock]

    @compute_method
    async def count(self, name: str) -> int:
        """How many there are."""
        self.stock.computed.append(name)
        return self.stock.counts[name]

    @compute_method
    async def item(self, name: str, price: Decimal = Decimal("1.50")) -> Item | None:
        if not self.stock.counts[name]:
            return None
        return Item(name, await self.count(name), price)

    @compute_method
    async def search(self, query: Query, limit: int = 10, weights: dict[str, float] | None = None) -> list[str]:
        return sorted(query.tags)[:limit]

    @compute_method
    async def anything(self, value: object) -> str:
        return type(value).__name__

    @compute_method
    async def nothing(self) -> None:
        return None

    @compute_method
    async def fail(self, kind: str) -> int:
        """Raise."""
        if kind == "invariant":
            raise InvariantViolation("the secret of the house")
        if kind == "overloaded":
            raise Overloaded("too much", retry_after_s=1.5)
        raise ValueError(f"no {kind} here")

    @compute_method
    async def unknown(self) -> object:
        return Unknown()

    @compute_method
    async def flaky(self, name: str) -> int:
        if self.stock.failures:
            raise self.stock.failures.pop(0)
        return await self.count(name)

    @compute_method
    async def forever(self, name: str) -> int:
        self.stock.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.stock.waiting -= 1
        return 0

    @command
    async def put(self, name: str, count: int) -> int:
        """Set how many there are; returns how many there were."""
        self.stock.executed.append(name)
        previous = self.stock.counts[name]
        self.stock.counts[name] = count
        self.count.invalidate(name)
        self.item.invalidate(name)
        return previous

    @command
    async def raise_to(self, name: str, count: int) -> None:
        """Counts only rise, whatever the order of the commands."""
        self.stock.counts[name] = max(count, self.stock.counts[name])
        self.count.invalidate(name)

    @command
    async def refuse(self, name: str) -> None:
        self.stock.executed.append(name)
        raise ValueError(f"{name} is not to be touched")

    @command
    async def slow(self, name: str) -> str:
        self.stock.executed.append(name)
        await self.stock.gate.wait()
        return f"done {name}"


class Scales(ComputeService):
    shelf: Shelf

    @compute_method
    async def weight(self, name: str) -> float:
        return 0.5 * await self.shelf.count(name)

    async def both(self, name: str) -> tuple[int, float]:
        """A plain method: it runs where it is called."""
        return await self.shelf.count(name), await self.weight(name)


app = App("shelf", services=[Shelf, Scales])

UNREACHABLE = ShardUnavailable("gone for a moment", retry_after_s=0.01)


def fresh_stock() -> Stock:
    """Data of its own for one test."""
    Shelf.stock = Stock()
    return Shelf.stock
