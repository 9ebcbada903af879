"""Unions in pydantic models: each pair of members is refused, or every value arrives as what it is."""

from __future__ import annotations

import datetime
import enum
import itertools
import pathlib
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, Union

import pydantic
import pytest

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.errors import UsageError
from fusion_cluster.wire.codec import encode_json, encode_msgpack, value_codec


class Side(enum.Enum):
    LEFT = "l"


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(pydantic.BaseModel):
    x: int


class Pixel(pydantic.BaseModel):
    x: int
    y: int = 0


class Name(pydantic.BaseModel):
    text: str


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    age: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    age: int


ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
SAMPLES: dict[Any, list[Any]] = {
    str: ["1", "1.50", "a", "true", "l", "red", "PT1S", "2024-01-01", "2024-01-01T00:00:00", "01:02", str(ID)],
    int: [1],
    float: [1.0, 1.5],
    bool: [True],
    bytes: [b"a"],
    Decimal: [Decimal("1"), Decimal("1.50")],
    datetime.datetime: [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)],
    datetime.date: [datetime.date(2024, 1, 1)],
    datetime.time: [datetime.time(1, 2)],
    datetime.timedelta: [datetime.timedelta(seconds=1)],
    uuid.UUID: [ID],
    pathlib.Path: [pathlib.Path("a")],
    Side: [Side.LEFT],
    Color: [Color.RED],
    Level: [Level.LOW],
    list[int]: [[1]],
    tuple[int, ...]: [(1,)],
    set[int]: [{1}],
    frozenset[int]: [frozenset({1})],
    dict[str, int]: [{"x": 1}],
    Point: [Point(x=1)],
    Pixel: [Pixel(x=1), Pixel(x=1, y=2)],
    Name: [Name(text="a")],
    Cat: [Cat(age=1)],
    Dog: [Dog(age=1)],
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_each_union_of_two_is_refused_or_right() -> None:
    clear, refusals = set(), []
    for one, other in itertools.permutations(SAMPLES, 2):
        model: Any = pydantic.create_model("Model", value=(Union[one, other], ...))  # noqa: UP007
        try:
            codec = value_codec(model)
        except UsageError as error:
            refusals.append(error.message)
            continue
        clear.add((one, other))
        for value in SAMPLES[one] + SAMPLES[other]:
            came = model.model_construct(value=value)
            for arrived in (codec.decode_msgpack(encode_msgpack(came)), codec.decode_json(encode_json(came))):
                assert (type(arrived.value), arrived.value) == (type(value), value), f"{one} | {other}"
    for fine in [
        (int, str),
        (int, float),
        (str, bool),
        (int, datetime.datetime),
        (Point, Name),
        (Cat, Dog),
        (int, Point),
    ]:
        assert fine in clear
    assert (Decimal, str) not in clear
    assert all(message.startswith("Model.value: ") for message in refusals)


class Money(pydantic.BaseModel):
    amount: Decimal | None
    history: list[dict[str, Decimal | str]] = []


class Wallet(pydantic.BaseModel):
    money: list[Money]


class Pets(pydantic.BaseModel):
    first: Cat | Dog = pydantic.Field(discriminator="kind")
    others: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]] = []


def test_the_service_is_refused_with_the_model_and_the_field_named() -> None:
    class Purse(ComputeService):
        @compute_method
        async def wallet(self) -> list[Wallet] | None:
            return None

    with pytest.raises(UsageError, match=r"Purse.wallet: its result: Money.history: Decimal and str in Decimal \| str"):
        App("purse", [Purse])


def test_a_discriminator_tells_models_apart() -> None:
    pets = Pets(first=Dog(age=1), others=[Cat(age=2), Dog(age=3)])
    codec = value_codec(Pets)
    assert codec.decode_msgpack(encode_msgpack(pets)) == pets
    assert codec.decode_json(encode_json(pets)) == pets
