"""A small service whose computeds are invalidated for all kinds of reasons."""

from __future__ import annotations

import asyncio
import sys

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Explanation, compute_method, gather
from fusion_cluster.state import MutableState


class Market(ComputeService):
    """Prices, and what is made of them. `errors` are raised by `flaky`, first to last; `gate` holds `held` up."""

    def __init__(self) -> None:
        self.rate = MutableState(2, name="rate")
        self.errors: list[Exception] = []
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.price_now = 1

    @compute_method
    async def price(self, product: int) -> int:
        return product

    @compute_method
    async def discounted(self, product: int) -> int:
        return await self.price(product) - 1

    @compute_method
    async def total(self, *, first: int, second: int) -> int:
        return sum(await gather(self.discounted(first), self.price(second)))

    @compute_method
    async def abroad(self, product: int) -> int:
        return await self.price(product) * self.rate.value

    @compute_method
    async def chain(self, length: int) -> int:
        return 1 + await self.chain(length - 1) if length else 0

    @compute_method
    async def wide(self, product: int, times: int) -> bytes:
        return bytes(1000 * times + 0 * await self.price(product))

    @compute_method
    async def shown(self, product: int, times: int) -> int:
        return len(await self.wide(product, times))

    @compute_method(auto_invalidation_delay=5)
    async def fleeting(self, product: int) -> int:
        return product

    @compute_method(transient_error_delay=3, error_delay=40)
    async def flaky(self) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 1

    @compute_method(invalidation_delay=2)
    async def delayed(self, product: int) -> int:
        return await self.price(product)

    @compute_method(consolidation_delay=1)
    async def rounded(self, product: int) -> int:
        return await self.price(product) * 0 + self.price_now

    @compute_method
    async def label(self, product: int) -> str:
        return f"{await self.rounded(product)}"

    @compute_method
    async def held(self, product: int) -> int:
        price = await self.price(product)
        self.entered.set()
        await self.gate.wait()
        return price

    @compute_method
    async def reader(self, product: int) -> int:
        return await self.held(product)


def here() -> int:
    """Return the line of the caller."""
    return sys._getframe(1).f_lineno


def names(explanation: Explanation | None) -> list[str]:
    """Return the hops of an explanation in words."""
    assert explanation is not None
    return [str(hop) for hop in explanation.hops]
