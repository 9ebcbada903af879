"""What a look-up finds does not depend on who else asks: for keys of any type, on columns of any type."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import enum
import itertools
import random
import uuid
from decimal import Decimal
from typing import Any, Final

import pytest
from sqlalchemy import Column, MetaData, String, Table, TypeDecorator, types
from sqlalchemy.dialects import postgresql

from fusion_cluster import BatchLoader, Database

pytest_plugins = ["tests.databases"]

ONE = uuid.UUID(int=1)
NOON: Final = dt.datetime(2026, 3, 1, 12)


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Lowered(TypeDecorator[str]):
    """A type of the app's own, which changes what it is given."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> str | None:
        return None if value is None else value.lower()


def _table(backend: str) -> Table:
    of_text: list[types.TypeEngine[Any]] = [String(), String(collation="NOCASE"), String(collation="RTRIM")]
    if backend == "postgresql":
        of_text = [String(), types.CHAR(5), postgresql.VARCHAR(5)]
    kinds: list[Any] = [
        *of_text,
        *(Lowered(), types.Integer(), types.BigInteger(), types.REAL(), types.Float(53), types.Numeric(10, 2)),
        *(types.Boolean(), types.DateTime(), types.DateTime(timezone=True), types.Date(), types.LargeBinary()),
        *(types.Uuid(), types.Enum(Color), types.Enum("red", "blue", name="colors")),
    ]
    columns = [Column(f"c{place}", kind) for place, kind in enumerate(kinds)]
    return Table("things", MetaData(), Column("id", types.Integer, primary_key=True), *columns)


VALUES: Final[list[Any]] = [
    *("tea", "TEA", "tea  ", "Tea", "7", "7.0", "red", "RED", "", "1", "é", "\x00", "2026-03-01 12:00:00.000000"),
    *(7, 7.0, True, 1, 1.0, 0, -0.0, 0.1, 2**53, 2**53 + 1, 2**63, -(2**70), float("nan"), float("inf"), 16777217),
    *(Decimal("7"), Decimal("7.00"), Decimal("0.1"), Decimal("1E+2"), 100),
    *(NOON, NOON.replace(tzinfo=dt.UTC), NOON.replace(hour=14, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    *(NOON.replace(fold=1), NOON.date(), b"tea", b"7", ONE, str(ONE), ONE.hex, Color.RED, Color.BLUE, None),
]


@pytest.fixture
async def things(database: Database) -> Table:
    table = _table(database.url.partition("+")[0])
    await database.create_tables(table.metadata)
    async with database.engines().writing.begin() as connection:
        for number, value in enumerate(VALUES):
            for column in table.columns[1:]:
                with contextlib.suppress(Exception):  # as many as the column takes, each in a row of its own
                    async with connection.begin_nested():
                        row = {"id": 100 * number + int(column.name[1:]), column.name: value}
                        await connection.execute(table.insert(), row)
    return table


async def found(loader: BatchLoader[Any, Any], key: Any) -> object:
    """What a look-up gives, to be compared."""
    try:
        rows = await loader.load(key)
    except Exception as error:
        return type(error)
    return [row["id"] for row in rows]


async def test_what_a_key_finds_does_not_depend_on_who_else_asks(database: Database, things: Table) -> None:
    shuffled = random.Random(8)
    wrong = []
    answered = 0
    for column in things.columns[1:]:
        loader = database.list_loader(things, by=column)
        alone = [await found(loader, value) for value in VALUES]
        answered += sum(isinstance(rows, list) and bool(rows) for rows in alone)
        for count in (2, 5, len(VALUES)):
            places = shuffled.sample(range(len(VALUES)), count)
            together = await asyncio.gather(*(found(loader, VALUES[place]) for place in places))
            wrong += [
                f"{column.type!r}: {VALUES[place]!r} finds {alone[place]} alone, {answer} among others"
                for place, answer in zip(places, together, strict=True)
                if answer != alone[place]
            ]
    assert not wrong, "\n".join(wrong)
    assert answered > 100


async def test_nor_does_that_of_several_columns(database: Database, things: Table) -> None:
    shuffled = random.Random(8)
    loader = database.list_loader(things, by=(things.c.id, things.c.c0))
    keys: list[tuple[float, Any]] = [(100 * place, value) for place, value in enumerate(VALUES)]
    keys += [(float(number), value) for number, value in keys[:3]]
    alone = {place: await found(loader, key) for place, key in enumerate(keys)}
    for count in (2, len(keys)):
        places = shuffled.sample(range(len(keys)), count)
        together = await asyncio.gather(*(found(loader, keys[place]) for place in places))
        assert dict(zip(places, together, strict=True)) == {place: alone[place] for place in places}


async def test_keys_that_are_equal_in_python_alone_are_looked_up_apart() -> None:
    calls = []

    async def spell(keys: Any) -> dict[Any, str]:
        calls.append(list(keys))
        return {key: repr(key) for key in keys}

    keys = [
        1,
        True,
        1.0,
        Decimal("1.0"),
        Decimal("1.00"),
        NOON,
        NOON.replace(fold=1),
        "red",
        Color.RED,
        (1, 0),
        (True, 0),
    ]
    for order in itertools.islice(itertools.permutations(keys), 0, 5000, 499):
        loader = BatchLoader(spell)
        assert await asyncio.gather(*map(loader.load, order)) == [repr(key) for key in order]
        assert await loader.load_many(order) == [repr(key) for key in order]
    calls.clear()
    await asyncio.gather(*(BatchLoader.load(loader, number) for number in (1, 2, 1, 3)))
    assert calls == [[1, 2, 3]]
