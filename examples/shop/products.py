"""The products and their prices."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import select

from examples.shop.schema import ProductRow
from examples.shop.values import Product
from fusion_cluster import ComputeService, Database, InvalidArgument, command, compute_method


class Products(ComputeService):
    """The products by their number."""

    database: Database

    @compute_method
    async def get(self, product_id: int) -> Product | None:
        """The product, or None."""
        row = await self.database.loader(ProductRow).load(product_id)  # with all that are asked for now, one query
        return Product(row.id, row.name, row.price) if row is not None else None

    @compute_method
    async def numbers(self) -> tuple[int, ...]:
        """The numbers of all products, in order."""
        async with self.database.session() as session:
            return tuple(await session.scalars(select(ProductRow.id).order_by(ProductRow.id)))

    @command
    async def create(self, product_id: int, name: str, price: Decimal) -> Product:
        """Add a product.

        Raises:
            InvalidArgument: there is one of that number, or the price is below zero.
        """
        _check_price(price)
        async with self.database.operation() as operation:
            if await operation.session.get(ProductRow, product_id) is not None:
                raise InvalidArgument(f"there is a product {product_id} already", field="product_id")
            operation.session.add(ProductRow(id=product_id, name=name, price=price))
            self.get.invalidate(product_id)
            self.numbers.invalidate()
            return operation.result(Product(product_id, name, price))

    @command
    async def set_price(self, product_id: int, price: Decimal) -> None:
        """Change a price; the totals of the carts that hold the product follow.

        Raises:
            InvalidArgument: there is no such product, or the price is below zero.
        """
        _check_price(price)
        async with self.database.operation() as operation:
            row = await operation.session.get(ProductRow, product_id)
            if row is None:
                raise InvalidArgument(f"there is no product {product_id}", field="product_id")
            row.price = price
            self.get.invalidate(product_id)


def _check_price(price: Decimal) -> None:
    if not price.is_finite() or price < 0:
        raise InvalidArgument(f"a price is a number from 0 on, not {price}", field="price")
