"""The carts, and what is in them."""

from __future__ import annotations

from decimal import Decimal

from examples.shop.products import Products
from examples.shop.schema import CartRow, ItemRow
from examples.shop.values import Item
from fusion_cluster import ComputeService, Database, InvalidArgument, command, compute_method, gather


class Carts(ComputeService):
    """The carts by their name."""

    database: Database
    products: Products

    @compute_method
    async def items(self, cart_id: str) -> tuple[Item, ...]:
        """What is in the cart, in the order of the products' numbers; nothing if there is no such cart."""
        rows = await self.database.list_loader(ItemRow, by=ItemRow.cart_id, order_by=ItemRow.product_id).load(cart_id)
        return tuple(Item(row.product_id, row.quantity) for row in rows)

    @compute_method(min_cache_duration=60)
    async def total(self, cart_id: str) -> Decimal:
        """What the cart costs at today's prices."""
        items = await self.items(cart_id)
        products = await gather(*(self.products.get(item.product_id) for item in items))
        prices = [product.price if product is not None else Decimal(0) for product in products]
        return sum((price * item.quantity for price, item in zip(prices, items, strict=True)), Decimal(0))

    @command
    async def create(self, cart_id: str) -> None:
        """Take a cart.

        Raises:
            InvalidArgument: it is taken.
        """
        async with self.database.operation() as operation:
            if await operation.session.get(CartRow, cart_id) is not None:
                raise InvalidArgument(f"the cart {cart_id!r} is taken", field="cart_id")
            operation.session.add(CartRow(id=cart_id))

    @command
    async def add_item(self, cart_id: str, product_id: int, quantity: int = 1) -> int:
        """Put some more of a product into the cart; returns how many are in it then.

        Raises:
            InvalidArgument: there is no such cart or product, or the quantity is below one.
        """
        if quantity < 1:
            raise InvalidArgument(f"nobody can add {quantity} of a product", field="quantity")
        if await self.products.get(product_id) is None:
            raise InvalidArgument(f"there is no product {product_id}", field="product_id")
        async with self.database.operation() as operation:
            if await operation.session.get(CartRow, cart_id) is None:
                raise InvalidArgument(f"there is no cart {cart_id!r}", field="cart_id")
            row = await operation.session.get(ItemRow, (cart_id, product_id))
            if row is None:
                row = ItemRow(cart_id=cart_id, product_id=product_id, quantity=0)
                operation.session.add(row)
            row.quantity += quantity
            self.items.invalidate(cart_id)
            return operation.result(row.quantity)

    @command
    async def remove_item(self, cart_id: str, product_id: int) -> None:
        """Take a product out of the cart, however many there are; nothing happens if there is none."""
        async with self.database.operation() as operation:
            row = await operation.session.get(ItemRow, (cart_id, product_id))
            if row is None:
                return
            await operation.session.delete(row)
            self.items.invalidate(cart_id)
