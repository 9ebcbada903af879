"""Look-ups around operations: an operation's own see what it has written, and nobody else's do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from contextvars import Context
from pathlib import Path

import pytest
from sqlalchemy import update

from fusion_cluster import App, BatchLoader, ComputeService, Database, UsageError, command, compute_method, isolated
from tests.apps.catalogue import OrderRow, ProductRow, fill
from tests.statements import statements

pytest_plugins = ["tests.databases"]


class Products(ComputeService):
    database: Database

    @compute_method
    async def name(self, product_id: int) -> str | None:
        row = await self.database.loader(ProductRow).load(product_id)
        return None if row is None else row.name

    @compute_method
    async def name_without_capture(self, product_id: int) -> str | None:
        with isolated():
            row = await self.database.loader(ProductRow).load(product_id)
        return None if row is None else row.name

    @command
    async def rename(self, product_id: int, name: str) -> list[str | None]:
        """What is seen before, within and after the operation."""
        seen = [await self._seen(product_id)]
        async with self.database.operation():
            row = await self.database.loader(ProductRow).load(product_id)
            assert row is not None
            row.name = name
            self.name.invalidate(product_id)
            seen.append(await self._seen(product_id))
        return [*seen, await self._seen(product_id)]

    async def _seen(self, product_id: int) -> str | None:
        row = await self.database.loader(ProductRow).load(product_id)
        return None if row is None else row.name


@pytest.fixture
async def catalogue(database: Database) -> Database:
    await fill(database)
    return database


@pytest.fixture
async def products(catalogue: Database) -> AsyncIterator[Products]:
    async with App("products", [Products], database=catalogue).local() as host:
        yield host.service(Products)
        host.graph.validate()


async def name(database: Database, product_id: int) -> str | None:
    row = await database.loader(ProductRow).load(product_id)
    return None if row is None else row.name


# -- its own look-ups --------------------------------------------------------------------------------------------------
async def test_a_look_up_in_an_operation_sees_what_it_has_written_and_nobody_else_does(catalogue: Database) -> None:
    async with catalogue.operation() as operation:
        operation.session.add(ProductRow(id=11, sku="s11", name="new"))
        await operation.session.execute(update(ProductRow).where(ProductRow.id == 1).values(name="other"))
        assert [await name(catalogue, number) for number in (11, 1, 99)] == ["new", "other", None]
        outside = asyncio.create_task(name(catalogue, 1), context=Context())
        assert await outside == "product 1"
    assert [await name(catalogue, number) for number in (11, 1)] == ["new", "other"]


async def test_the_rows_of_an_operation_belong_to_its_session(products: Products, catalogue: Database) -> None:
    assert await products.name(1) == "product 1"
    assert await products.rename(1, "renamed") == ["product 1", "renamed", "renamed"]
    assert await products.name(1) == "renamed"


async def test_several_keys_in_an_operation_are_one_query(catalogue: Database) -> None:
    async with catalogue.operation():
        with statements() as sent:
            rows = await catalogue.loader(ProductRow).load_many([3, 1, 3, 99])
            orders = await catalogue.list_loader(OrderRow, by=OrderRow.customer_id).load_many([1, 99])
    assert [row and row.id for row in rows] == [3, 1, 3, None]
    assert [[row.id for row in found] for found in orders] == [[1, 4, 7], []]
    assert len(sent) == 2


async def test_more_keys_than_a_statement_can_take_are_several_in_an_operation_too(catalogue: Database) -> None:
    async with catalogue.operation():
        with statements() as sent:
            rows = await catalogue.loader(ProductRow).load_many(range(40_000))
    assert [row.id for row in rows if row is not None] == list(range(1, 11))
    assert len(sent) == (2 if catalogue.url.startswith("postgresql") else 3)


async def test_an_operation_within_an_operation_looks_up_in_the_same_transaction(catalogue: Database) -> None:
    async with catalogue.operation() as outer:
        (await outer.session.get_one(ProductRow, 1)).name = "outer"
        with suppress(LookupError):
            async with catalogue.operation() as inner:
                assert await name(catalogue, 1) == "outer"
                (await inner.session.get_one(ProductRow, 2)).name = "inner"
                assert await name(catalogue, 2) == "inner"
                raise LookupError
        assert await name(catalogue, 2) == "product 2"
    assert await name(catalogue, 1) == "outer"


async def test_what_was_rolled_back_is_seen_by_no_look_up_after_it(catalogue: Database) -> None:
    with suppress(LookupError):
        async with catalogue.operation() as operation:
            (await operation.session.get_one(ProductRow, 1)).name = "never"
            assert await name(catalogue, 1) == "never"
            raise LookupError
    assert await name(catalogue, 1) == "product 1"


async def test_tasks_in_an_operation_are_told_to_look_up_together(catalogue: Database) -> None:
    async with catalogue.operation() as operation:
        (await operation.session.get_one(ProductRow, 1)).name = "written"
        found = await asyncio.gather(*(name(catalogue, number) for number in (1, 2)), return_exceptions=True)
        assert [type(error) for error in found] == [UsageError, UsageError]
        assert "load_many" in str(found[0])
        assert await name(catalogue, 1) == "written"
    assert await asyncio.gather(*(name(catalogue, number) for number in (1, 2))) == ["written", "product 2"]


async def test_in_an_operation_on_another_database_look_ups_are_as_ever(catalogue: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path}/other.db")
    await fill(other)
    async with other.operation() as operation:
        (await operation.session.get_one(ProductRow, 1)).name = "other"
        with statements() as sent:
            found = await asyncio.gather(name(catalogue, 1), name(catalogue, 2))
        assert list(found) == ["product 1", "product 2"]
        assert len(sent) == 1
        assert await name(other, 1) == "other"
        async with catalogue.operation() as inner:
            (await inner.session.get_one(ProductRow, 1)).name = "ours"
            assert [await name(catalogue, 1), await name(other, 1)] == ["ours", "other"]
    await other.dispose()


async def test_a_loader_that_knows_no_database_is_refused_in_an_operation(catalogue: Database) -> None:
    async def load_many(keys: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(keys, 0)

    loader = BatchLoader(load_many)
    async with catalogue.operation():
        with pytest.raises(UsageError, match="before the operation"):
            await loader.load(1)
    assert await loader.load(1) == 0


# -- the look-ups of others --------------------------------------------------------------------------------------------
async def test_a_computation_that_an_operation_causes_sees_only_what_is_committed(products: Products) -> None:
    """Its result is everybody's, and the operation may still be rolled back."""
    with suppress(LookupError):
        async with products.database.operation() as operation:
            (await operation.session.get_one(ProductRow, 1)).name = "never"
            await operation.session.flush()
            assert await products.name(1) == "product 1"
            assert await products.name_without_capture(1) == "product 1"
            raise LookupError
    assert await products.name(1) == "product 1"
    assert await products.name_without_capture(1) == "product 1"


async def test_look_ups_that_others_make_at_the_same_time_are_not_part_of_the_operation(products: Products) -> None:
    begun, looked_up = asyncio.Event(), asyncio.Event()

    async def change() -> str | None:
        async with products.database.operation() as operation:
            (await operation.session.get_one(ProductRow, 1)).name = "changed"
            begun.set()
            found = await name(products.database, 1)
            await looked_up.wait()
            products.name.invalidate(1)
            return found

    changing = asyncio.create_task(change())
    await begun.wait()
    both = await asyncio.gather(products.name(1), name(products.database, 1))
    assert list(both) == ["product 1", "product 1"]
    looked_up.set()
    assert await changing == "changed"
    assert await products.name(1) == "changed"


async def test_readers_racing_commands_never_see_an_old_name(products: Products, catalogue: Database) -> None:
    new_names = [f"name {number}" for number in range(20)]
    committed = [-1]

    async def write() -> None:
        for number, new in enumerate(new_names):
            await products.rename(1, new)
            committed[0] = number

    async def read() -> None:
        while committed[0] < len(new_names) - 1:
            oldest = committed[0]
            found = await products.name(1)
            assert found is not None
            assert (new_names.index(found) if found in new_names else -1) >= oldest
            await asyncio.sleep(0)

    await asyncio.gather(write(), *(read() for _ in range(5)))
    assert await products.name(1) == new_names[-1]
