"""The story: what a command makes out of date, what is computed again, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from examples.shop.application import create_tables
from examples.shop.carts import Carts
from examples.shop.products import Products
from fusion_cluster import App, Computed
from fusion_cluster.host import LocalHost

Say = Callable[[str], None]


class Shelf:
    """What the story keeps an eye on: the computeds behind two carts."""

    def __init__(self, host: LocalHost, say: Say) -> None:
        self.products, self.carts = host.service(Products), host.service(Carts)
        self._graph = host.graph
        self._say = say
        self._seen: set[str] = set()

    def _calls(self) -> list[Computed[Any]]:
        return [
            *(self.products.get(product_id) for product_id in (1, 2, 3)),
            *(call for cart_id in ("ann", "bob") for call in (self.carts.items(cart_id), self.carts.total(cart_id))),
        ]

    async def look(self) -> list[str]:
        """Read everything, say what had to be computed; returns the keys of that."""
        before = self._graph.stats.computations
        marks: dict[str, str] = {}
        for call in self._calls():
            key, is_kept = str(call.key), call.is_consistent
            value = await call
            mark = marks[key] = "kept" if is_kept else "computed again" if key in self._seen else "computed"
            self._say(f"    {mark:15} {key:24} {_shown(value)}")
        self._seen.update(marks)
        self._say(f"    {self._graph.stats.computations - before} computations")
        return [key for key, mark in marks.items() if mark != "kept"]


def _shown(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if isinstance(value, tuple):
        return ", ".join(f"{item.quantity} of product {item.product_id}" for item in value) or "nothing"
    name, price = getattr(value, "name", "?"), getattr(value, "price", Decimal(0))
    return f"{name}, {price:.2f}"


async def tell(app: App, say: Say = print) -> list[list[str]]:
    """Tell the story on an empty database; returns, for each look, the keys that were computed."""
    await create_tables(app)
    looks: list[list[str]] = []
    async with app.local() as host:
        shelf = Shelf(host, say)
        products, carts = shelf.products, shelf.carts
        say("A shop with three products, and two carts.")
        for product_id, name, price in ((1, "tea", "4.10"), (2, "cups", "7.50"), (3, "honey", "6.20")):
            await products.create(product_id, name, Decimal(price))
        for cart_id, product_id, quantity in (("ann", 1, 3), ("ann", 2, 2), ("bob", 3, 1)):
            if not await carts.items(cart_id):
                await carts.create(cart_id)
            await carts.add_item(cart_id, product_id, quantity)

        say("\nThe first look computes what nobody has asked for yet.")
        looks.append(await shelf.look())
        say("\nThe second look computes nothing.")
        looks.append(await shelf.look())
        say("\nTea is cheaper now: products.set_price(1, 3.90). Ann's total follows; her items, and Bob, do not care.")
        await products.set_price(1, Decimal("3.90"))
        looks.append(await shelf.look())
        say("\nBob takes two of the cups: carts.add_item('bob', 2, 2).")
        await carts.add_item("bob", 2, 2)
        looks.append(await shelf.look())
        say("\nCups are dearer now: products.set_price(2, 8.00). They are in both carts.")
        await products.set_price(2, Decimal("8.00"))
        looks.append(await shelf.look())
        say("\nAnn puts the cups back: carts.remove_item('ann', 2).")
        await carts.remove_item("ann", 2)
        looks.append(await shelf.look())
        say("\nCups again: products.set_price(2, 7.00). They are no business of Ann's any more.")
        await products.set_price(2, Decimal("7.00"))
        looks.append(await shelf.look())
    return looks
