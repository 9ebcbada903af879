from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from examples.shop.application import create_tables, make_app
from examples.shop.carts import Carts
from examples.shop.products import Products
from examples.shop.story import tell
from examples.shop.values import Item, Product
from fusion_cluster import InvalidArgument, gather
from fusion_cluster.app_import import import_app
from fusion_cluster.host import LocalHost
from tests.statements import statements

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LocalHost]:
    app = make_app(f"sqlite:///{tmp_path}/shop.db")
    await create_tables(app)
    async with app.local() as host:
        await host.service(Products).create(1, "tea", Decimal("4.10"))
        await host.service(Products).create(2, "cups", Decimal("7.50"))
        await host.service(Carts).create("ann")
        await host.service(Carts).create("bob")
        yield host
        host.graph.validate()


@pytest.fixture
def products(host: LocalHost) -> Products:
    return host.service(Products)


@pytest.fixture
def carts(host: LocalHost) -> Carts:
    return host.service(Carts)


async def test_a_total_is_the_sum_of_prices_times_quantities(carts: Carts) -> None:
    assert await carts.total("ann") == 0
    assert await carts.add_item("ann", 1, 3) == 3
    assert await carts.total("ann") == Decimal("12.30")
    assert await carts.add_item("ann", 2) == 1
    assert await carts.add_item("ann", 2) == 2
    assert await carts.items("ann") == (Item(1, 3), Item(2, 2))
    assert await carts.total("ann") == Decimal("27.30")
    await carts.remove_item("ann", 1)
    assert await carts.total("ann") == Decimal("15.00")
    await carts.remove_item("ann", 1)


async def test_the_products_of_a_cart_are_one_query(products: Products, carts: Carts) -> None:
    for product_id in range(3, 13):
        await products.create(product_id, f"product {product_id}", Decimal(product_id))
        await carts.add_item("ann", product_id)
        await carts.add_item("bob", product_id)
        products.get.invalidate(product_id)
    with statements() as sent:
        assert [int(total) for total in await gather(carts.total("ann"), carts.total("bob"))] == [75, 75]
    assert len(sent) == 2, "the items of both carts, and then their products"


async def test_a_new_price_moves_the_totals_that_hold_the_product_and_no_other(
    products: Products, carts: Carts
) -> None:
    await carts.add_item("ann", 1, 3)
    await carts.add_item("bob", 2, 1)
    ann, bob, items = carts.total("ann"), carts.total("bob"), carts.items("ann")
    await ann
    await bob
    await products.set_price(1, Decimal("4.00"))
    assert not ann.is_consistent
    assert bob.is_consistent
    assert items.is_consistent
    assert await carts.total("ann") == Decimal("12.00")
    assert carts.total("bob") is bob


async def test_a_new_product_is_found_by_those_who_found_none(products: Products) -> None:
    assert await products.get(3) is None
    assert await products.numbers() == (1, 2)
    assert await products.create(3, "honey", Decimal("6.20")) == Product(3, "honey", Decimal("6.20"))
    assert await products.get(3) == Product(3, "honey", Decimal("6.20"))
    assert await products.numbers() == (1, 2, 3)


async def test_what_cannot_be_done_names_the_parameter_and_changes_nothing(products: Products, carts: Carts) -> None:
    total = carts.total("ann")
    await total
    for refused, field in (
        (products.set_price(9, Decimal(1)), "product_id"),
        (products.set_price(1, Decimal(-1)), "price"),
        (products.set_price(1, Decimal("NaN")), "price"),
        (products.create(1, "tea", Decimal(1)), "product_id"),
        (carts.create("ann"), "cart_id"),
        (carts.add_item("ann", 9), "product_id"),
        (carts.add_item("ann", 1, 0), "quantity"),
        (carts.add_item("nobody", 1), "cart_id"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await refused
        assert caught.value.field == field
    assert total.is_consistent


async def test_racing_commands_on_one_cart_lose_nothing(carts: Carts, products: Products) -> None:
    await asyncio.gather(
        *(carts.add_item("ann", 1) for _ in range(20)),
        *(carts.add_item("bob", 2) for _ in range(20)),
        *(products.set_price(1, Decimal(price)) for price in range(1, 6)),
    )
    assert await carts.items("ann") == (Item(1, 20),)
    assert await carts.total("bob") == 20 * Decimal("7.50")
    product = await products.get(1)
    assert product is not None
    assert await carts.total("ann") == 20 * product.price


async def test_the_story_computes_only_what_has_changed(tmp_path: Path) -> None:
    lines: list[str] = []
    looks = await tell(make_app(f"sqlite:///{tmp_path}/story.db"), lines.append)
    assert looks[1:] == [
        [],
        ["Products.get(1)", "Carts.total('ann')"],
        ["Carts.items('bob')", "Carts.total('bob')"],
        ["Products.get(2)", "Carts.total('ann')", "Carts.total('bob')"],
        ["Carts.items('ann')", "Carts.total('ann')"],
        ["Products.get(2)", "Carts.total('bob')"],
    ]
    assert any("27.30" in line for line in lines)


async def test_the_story_is_told_in_a_terminal_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "examples.shop"),
        env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"computed again  Carts.total('ann')       26.70" in output
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


def test_the_app_is_found_by_its_name() -> None:
    app = import_app("examples.shop:app")
    assert sorted(app.methods) == [
        "Carts.add_item",
        "Carts.create",
        "Carts.items",
        "Carts.remove_item",
        "Carts.total",
        "Products.create",
        "Products.get",
        "Products.numbers",
        "Products.set_price",
    ]
