"""`python -m examples.shop` tells the story on a database of its own; `... prepare` makes the one that is served."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from decimal import Decimal

from examples.shop.application import app, create_tables, make_app
from examples.shop.products import Products
from examples.shop.story import tell

STOCK = ((1, "tea", "4.10"), (2, "cups", "7.50"), (3, "honey", "6.20"))


async def prepare() -> None:
    """Create the tables of the app that is served, and the products that are missing in it."""
    await create_tables(app)
    async with app.local() as host:
        products = host.service(Products)
        for product_id, name, price in STOCK:
            if await products.get(product_id) is None:
                await products.create(product_id, name, Decimal(price))


def main() -> int:
    """Run what the command line says."""
    if sys.argv[1:] == ["prepare"]:
        asyncio.run(prepare())
        assert app.database is not None
        print(f"{app.database.url} is ready: fusion-cluster serve examples.shop:app")
        return 0
    if sys.argv[1:]:
        print("python -m examples.shop [prepare]", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_tell(folder))
    return 0


async def _tell(folder: str) -> None:
    await tell(make_app(f"sqlite:///{folder}/shop.db"))


if __name__ == "__main__":
    sys.exit(main())
