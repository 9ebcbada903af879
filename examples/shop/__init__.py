"""A shop as a reactive app: products, carts, and totals that follow the prices.

`python -m examples.shop` tells its story; `fusion-cluster serve examples.shop:app` serves it.
"""

from examples.shop.application import app

__all__ = ["app"]
