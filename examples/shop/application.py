"""The app: products and carts over one database."""

from __future__ import annotations

import os

from examples.shop.carts import Carts
from examples.shop.products import Products
from examples.shop.schema import Base
from fusion_cluster import App, Database


def make_app(url: str) -> App:
    """The app over the database of that URL."""
    return App("shop", services=[Products, Carts], database=Database(url))


async def create_tables(app: App) -> None:
    """Create the tables that are not there yet."""
    assert app.database is not None
    await app.database.create_tables(Base.metadata)


app = make_app(os.environ.get("SHOP_DATABASE", "sqlite:///shop.db"))
"""What `examples.shop:app` serves: the database of SHOP_DATABASE, by default `shop.db` in the current folder."""
