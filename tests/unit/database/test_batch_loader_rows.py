"""Rows by their keys, on SQLite and on PostgreSQL: the statements that are sent, and what they give."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any, assert_type

import pytest
from sqlalchemy import Column, MetaData, RowMapping, String, Table, inspect, text
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, StatementError

from fusion_cluster import Database, UsageError
from tests.apps.catalogue import ANN, BOB, Base, OrderRow, PieceRow, ProductRow, StayRow, airports, fill, keyless, night
from tests.statements import statements

pytest_plugins = ["tests.databases"]


@pytest.fixture
async def catalogue(database: Database) -> Database:
    await fill(database)
    return database


def is_postgresql(database: Database) -> bool:
    return database.url.startswith("postgresql")


# -- one query ---------------------------------------------------------------------------------------------------------
async def test_the_look_ups_of_one_turn_are_one_query_wherever_the_loader_was_asked_for(catalogue: Database) -> None:
    async def name(number: int) -> str | None:
        row = await catalogue.loader(ProductRow).load(number)
        assert_type(row, ProductRow | None)
        return None if row is None else row.name

    with statements() as sent:
        found = await asyncio.gather(*(name(number) for number in (3, 1, 3, 99, 2)))
    assert found == ["product 3", "product 1", "product 3", None, "product 2"]
    assert len(sent) == 1
    with statements() as sent:
        assert await name(1) == "product 1"
    assert len(sent) == 1, "nothing is kept from one turn to the next"


async def test_a_statement_is_compiled_once_for_any_number_of_keys(catalogue: Database) -> None:
    by_number = catalogue.loader(ProductRow)
    by_guest_and_night = catalogue.loader(StayRow)
    with statements() as sent:
        for count in (1, 2, 5):
            await by_number.load_many(range(count))
            await by_guest_and_night.load_many([(ANN, night(day)) for day in range(1, count + 1)])
    assert [statement.is_compiled_anew for statement in sent[2:]] == [False] * 4
    texts = {statement.text for statement in sent}
    assert len(texts) == (2 if is_postgresql(catalogue) else 6), "PostgreSQL prepares each text anew"


async def test_more_keys_than_a_statement_can_take_are_several(catalogue: Database) -> None:
    with statements() as sent:
        found = await catalogue.loader(ProductRow).load_many(range(70_000))
    assert [row.id for row in found if row is not None] == list(range(1, 11))
    assert len(sent) == (3 if is_postgresql(catalogue) else 5)
    assert all(len(statement.parameters) < 32_767 for statement in sent)
    keys = [(uuid.UUID(int=number % 5), night(number % 31 + 1)) for number in range(155)]
    with statements() as sent:
        stays = await catalogue.loader(StayRow).load_many(keys * 200)
    assert len([row for row in stays if row is not None]) == 6 * 200
    assert len(sent) == 1, "each key is asked for once"
    many = [(uuid.UUID(int=number), night(1)) for number in range(20_000)]
    with statements() as sent:
        stays = await catalogue.loader(StayRow).load_many(many)
    assert [row.room for row in stays if row is not None] == ["a1"]
    assert len(sent) == 2
    assert all(len(statement.parameters) < 32_767 for statement in sent)


# -- keys --------------------------------------------------------------------------------------------------------------
async def test_rows_are_found_by_a_unique_column(catalogue: Database) -> None:
    loader = catalogue.loader(ProductRow, by=ProductRow.sku)
    with statements() as sent:
        rows = await loader.load_many(["s2", "s0", "s1"])
    assert_type(rows, list[ProductRow | None])
    assert [row and row.id for row in rows] == [2, None, 1]
    assert len(sent) == 1


async def test_the_key_of_several_columns_is_a_tuple(catalogue: Database) -> None:
    loader = catalogue.loader(StayRow)
    keys = [(ANN, night(1)), (BOB, night(4)), (ANN, night(4)), (BOB, night(1)), (BOB, night(2))]
    with statements() as sent:
        rows = await loader.load_many(keys)
    assert [row and row.room for row in rows] == ["a1", "b4", None, None, "b2"]
    assert len(sent) == 1
    swapped = catalogue.loader(StayRow, by=(StayRow.night, StayRow.guest))
    row = await swapped.load((night(2), BOB))
    assert row is not None
    assert row.room == "b2"
    for wrong in (ANN, (ANN,), [ANN, night(1)], None):
        with pytest.raises(UsageError) as caught:
            await loader.load(wrong)
        assert caught.value.field in ("key", "keys")


@pytest.mark.parametrize(
    ("by", "keys", "search"),
    [
        (
            (StayRow.guest, StayRow.night),
            [(ANN, night(1)), (BOB, night(2))],
            "stays USING INDEX sqlite_autoindex_stays_1",
        ),
        ((ProductRow.id,), [1, "2", 3.0], "products USING INTEGER PRIMARY KEY (rowid=?)"),
        ((ProductRow.sku,), ["s1", "s2"], "products USING INDEX sqlite_autoindex_products_1 (sku=?)"),
    ],
)
async def test_sqlite_finds_keys_in_the_index(tmp_path: Path, by: Any, keys: list[Any], search: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/stays.db")
    await fill(database)
    with statements() as sent:
        await database.loader(by[0].class_, by=by).load_many(keys)
    async with database.session() as session:
        connection = await session.connection()
        explained = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sent[0].text}", sent[0].parameters)
        plan = " ".join(row.detail for row in explained)
    await database.dispose()
    assert f"SEARCH {search}" in plan


async def test_a_table_gives_its_rows_as_mappings(catalogue: Database) -> None:
    found = await catalogue.loader(airports).load_many(["JFK", "XXX"])
    assert_type(found, list[RowMapping | None])
    assert found == [{"code": "JFK", "name": "Kennedy", "country": "US"}, None]
    by_name = await catalogue.loader(airports, by=airports.c.name).load("Newark")
    assert by_name is not None
    assert by_name["code"] == "EWR"
    pair = await catalogue.loader(airports, by=(airports.c.country, airports.c.code)).load(("DE", "FRA"))
    assert pair is not None
    assert pair["name"] == "Frankfurt"
    listed = await catalogue.list_loader(airports, by=airports.c.country, order_by=airports.c.name.desc()).load("US")
    assert_type(listed, list[RowMapping])
    assert [row["code"] for row in listed] == ["EWR", "JFK"]


# -- lists -------------------------------------------------------------------------------------------------------------
async def test_each_key_gives_the_list_of_its_rows_in_order(catalogue: Database) -> None:
    loader = catalogue.list_loader(OrderRow, by=OrderRow.customer_id, order_by=OrderRow.amount)
    with statements() as sent:
        found = await loader.load_many([1, 7, 0])
    assert_type(found, list[list[OrderRow]])
    assert [[row.id for row in rows] for rows in found] == [[7, 4, 1], [], [9, 6, 3]]
    assert len(sent) == 1


async def test_without_an_order_the_rows_come_in_that_of_the_primary_key(catalogue: Database) -> None:
    rows = await catalogue.list_loader(OrderRow, by=OrderRow.customer_id).load(2)
    assert [row.id for row in rows] == [2, 5, 8]
    stays = await catalogue.list_loader(StayRow, by=StayRow.night).load_many([night(3), night(2)])
    assert [[row.room for row in found] for found in stays] == [["a3", "b3"], ["a2", "b2"]], "not that of their making"


async def test_a_list_is_its_receivers_own(catalogue: Database) -> None:
    loader = catalogue.list_loader(OrderRow, by=OrderRow.customer_id)
    first, second, many = await asyncio.gather(loader.load(1), loader.load(1), loader.load_many([1, 1]))
    first.clear()
    many[0].clear()
    assert [len(rows) for rows in (second, many[1])] == [3, 3]


async def test_nobody_is_found_by_null_as_in_sql(catalogue: Database) -> None:
    found = await catalogue.list_loader(OrderRow, by=OrderRow.customer_id).load_many([None, 1])
    assert [len(rows) for rows in found] == [0, 3]


async def test_lists_by_several_columns(catalogue: Database) -> None:
    loader = catalogue.list_loader(StayRow, by=(StayRow.night,), order_by=(StayRow.room.desc(), StayRow.guest))
    assert [[row.room for row in rows] for rows in await loader.load_many([night(2), night(9)])] == [["b2", "a2"], []]
    pairs = catalogue.list_loader(StayRow, by=(StayRow.room, StayRow.night))
    assert [len(rows) for rows in await pairs.load_many([("a1", night(1)), ("a1", night(2))])] == [1, 0]


def test_the_same_look_up_has_the_same_loader_everywhere(database: Database) -> None:
    def newest_first() -> object:
        return database.list_loader(OrderRow, by=OrderRow.customer_id, order_by=OrderRow.id.desc())

    assert newest_first() is newest_first()
    assert newest_first() is not database.list_loader(OrderRow, by=OrderRow.customer_id, order_by=OrderRow.id)
    assert newest_first() is not database.list_loader(OrderRow, by=OrderRow.amount, order_by=OrderRow.id.desc())
    assert database.loader(OrderRow) is database.loader(OrderRow)
    assert database.loader(OrderRow, by=OrderRow.id) is database.loader(OrderRow, by=(OrderRow.id,))
    assert database.loader(OrderRow) is not database.loader(PieceRow)
    first = newest_first()
    for number in range(100):
        database.list_loader(OrderRow, by=OrderRow.customer_id, order_by=OrderRow.id + number)
    assert newest_first() is not first, "those who make up orders as they go fill no memory"


# -- rows --------------------------------------------------------------------------------------------------------------
async def test_rows_come_with_what_the_mapping_loads_and_belong_to_no_session(catalogue: Database) -> None:
    rows = await catalogue.loader(ProductRow).load_many([1, 2, 5])
    assert [[piece.id for piece in row.pieces] for row in rows if row is not None] == [[3, 6], [1, 4], []]
    assert all(inspect(row).detached for row in rows)


# -- failures ----------------------------------------------------------------------------------------------------------
async def test_a_key_that_the_database_refuses_fails_those_who_asked_for_it_alone(catalogue: Database) -> None:
    loader = catalogue.loader(ProductRow)
    with statements() as sent:
        found = await asyncio.gather(
            *(loader.load(number) for number in (1, 2**70, 2, 3)),
            loader.load_many([4, 2**70]),
            *(loader.load(number) for number in range(100, 200)),
            return_exceptions=True,
        )
    assert [row.id for row in found if isinstance(row, ProductRow)] == [1, 2, 3]
    errors = [error for error in found if isinstance(error, Exception)]
    assert [type(error) for error in errors] == 2 * ([DBAPIError] if is_postgresql(catalogue) else [OverflowError])
    assert len(sent) <= 16


async def test_a_key_of_another_type_fails_those_who_asked_for_it_alone(catalogue: Database) -> None:
    by_number, by_stay = catalogue.loader(ProductRow), catalogue.loader(StayRow)
    found = await asyncio.gather(by_number.load(1), by_number.load("2"), return_exceptions=True)
    assert isinstance(found[0], ProductRow)
    assert isinstance(found[1], DBAPIError if is_postgresql(catalogue) else ProductRow), "SQLite takes it for a number"
    stays = await asyncio.gather(
        by_stay.load((ANN, night(1))), by_stay.load((ANN, "2026-03-02")), return_exceptions=True
    )
    assert isinstance(stays[0], StayRow)
    assert isinstance(stays[1], StatementError)


async def test_a_key_finds_what_the_database_finds_equal_whoever_else_asks(database: Database) -> None:
    kind, spelled = ("CHAR(5)", "tea") if is_postgresql(database) else ("TEXT COLLATE NOCASE", "TEA")
    codes = Table("codes", MetaData(), Column("code", String, primary_key=True))
    async with database.operation() as operation:
        await operation.session.execute(text(f"CREATE TABLE codes (code {kind} PRIMARY KEY)"))
        await operation.session.execute(text("INSERT INTO codes VALUES ('tea'), ('honey')"))
    loader, lists = database.loader(codes), database.list_loader(codes, by=codes.c.code)
    alone = await loader.load(spelled)
    assert alone is not None
    assert alone["code"].strip() == "tea"
    found = await asyncio.gather(*(loader.load(code) for code in ("honey", spelled, "tea  ", "none", "tea")))
    assert found[1] == found[4] == alone
    assert [row and row["code"].strip() for row in found[::3]] == ["honey", None]
    assert [len(rows) for rows in await lists.load_many(["tea", spelled, "none"])] == [1, 1, 0]


async def test_a_row_that_is_not_the_only_one_of_its_key_is_an_error_for_that_key(catalogue: Database) -> None:
    loader = catalogue.loader(OrderRow, by=OrderRow.customer_id)
    found = await asyncio.gather(loader.load(1), loader.load(99), return_exceptions=True)
    assert isinstance(found[0], MultipleResultsFound)
    assert found[1] is None


async def test_a_query_that_fails_whatever_is_asked_is_sent_once(catalogue: Database) -> None:
    async with catalogue.operation() as operation:
        await operation.session.execute(text("DROP TABLE orders"))
    loader = catalogue.loader(OrderRow)
    with statements() as sent:
        found = await asyncio.gather(*(loader.load(number) for number in range(50)), return_exceptions=True)
    assert len(sent) == 1
    assert all(isinstance(error, DBAPIError) for error in found)


@pytest.mark.parametrize(
    ("entity", "by", "field"),
    [
        (int, None, "entity"),
        ("products", None, "entity"),
        ([ProductRow], None, "entity"),
        (Base, None, "entity"),
        (keyless, None, "by"),
        (keyless, airports.c.code, "by"),
        (airports, "code", "by"),
        (ProductRow, "sku", "by"),
        (ProductRow, OrderRow.id, "by"),
        (ProductRow, ProductRow.pieces, "by"),
        (ProductRow, (ProductRow.id, PieceRow.id), "by"),
    ],
)
def test_what_cannot_be_looked_up_names_the_argument(database: Database, entity: Any, by: Any, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        database.loader(entity, by=by)
    assert caught.value.field == field


@pytest.mark.parametrize("order_by", [3, object(), (OrderRow.id, 3)])
def test_an_order_that_is_none_names_the_argument(database: Database, order_by: object) -> None:
    with pytest.raises(UsageError, match="order") as caught:
        database.list_loader(OrderRow, by=OrderRow.customer_id, order_by=order_by)
    assert caught.value.field == "order_by"


async def test_rows_without_a_primary_key_are_found_by_other_columns(catalogue: Database) -> None:
    async with catalogue.operation() as operation:
        await operation.session.execute(keyless.insert(), [{"number": 1, "text": "b"}, {"number": 1, "text": "a"}])
    rows = await catalogue.list_loader(keyless, by=keyless.c.number, order_by=keyless.c.text).load(1)
    assert [row["text"] for row in rows] == ["a", "b"]
    assert len(await catalogue.list_loader(keyless, by=keyless.c.number).load(1)) == 2
