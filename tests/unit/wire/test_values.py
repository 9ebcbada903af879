from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NewType, Optional, TypedDict

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.codec import encode_json, encode_msgpack, value_codec


@dataclass(frozen=True)
class Product:
    id: int
    name: str
    price: Decimal


@dataclass(frozen=True)
class Customer:
    id: int
    email: str


@dataclass(frozen=True)
class Twin:
    id: int
    email: str


@dataclass(frozen=True)
class Shelf:
    content: Product | Customer | None
    more: tuple[Product | Customer, ...] = ()


class Planet(enum.Enum):
    PAIR = (1, 2)
    HALF = 0.5
    ONE = 1
    DAY = datetime.date(2024, 1, 1)
    RAW = b"x"
    NOTHING = None


class Suit(enum.Enum):
    HEARTS = "hearts"


class Unencodable(enum.Enum):
    THING = object()


class Alike(enum.Enum):
    DAY = datetime.date(2024, 1, 1)
    TEXT = "2024-01-01"


class SetOf(enum.Enum):
    BOTH = frozenset({"a", "b"})


@dataclass
class NeedsMore:
    id: int
    more: InitVar[int]


@dataclass
class Tree:
    content: Product | Customer
    branches: list[Tree] = field(default_factory=list)


@dataclass
class Counted:
    content: Product | Customer
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = 1


COUNTED = Counted(Customer(1, "a@b"))
COUNTED.count = 7


class Slot(msgspec.Struct, rename="camel", tag="slot"):
    shelf_content: Product | Customer
    planet: Planet = Planet.ONE


class Shelving(TypedDict, total=False):
    content: Product | Customer


class Board(msgspec.Struct, frozen=True):
    flights: list[int]
    delays: dict[str, float]


class Order(pydantic.BaseModel):
    id: int
    total: Decimal
    at: datetime.datetime
    tags: set[str]
    seal: bytes = b"x"


class StrictOrder(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    total: Decimal
    at: datetime.datetime


class Link(pydantic.BaseModel):
    page: pydantic.HttpUrl
    database: pydantic.PostgresDsn | None = None


class Aliased(pydantic.BaseModel):
    inner_name: int = pydantic.Field(alias="innerName")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: float


class UserId(int):
    pass


Cents = NewType("Cents", int)
UTC = datetime.UTC

VALUES: list[tuple[Any, Any]] = [
    (int, 5),
    (int, -(2**63)),
    (float, 1.5),
    (str, "žluťoučký"),
    (bytes, b"\x00\xff"),
    (bool, True),
    (None, None),
    (Decimal, Decimal("12.30")),
    (datetime.datetime, datetime.datetime(2013, 1, 1, 5, 15, 0, 1, tzinfo=UTC)),
    (datetime.datetime, datetime.datetime(2013, 1, 1, 5, 15)),
    (datetime.date, datetime.date(2013, 1, 1)),
    (datetime.time, datetime.time(5, 15)),
    (datetime.timedelta, datetime.timedelta(minutes=5)),
    (uuid.UUID, uuid.UUID(int=7)),
    (Colour, Colour.BLUE),
    (Level, Level.LOW),
    (set[int], {3, 1, 2}),
    (frozenset[str], frozenset({"a", "b"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (list[Product], [Product(1, "pen", Decimal("1.20"))]),
    (Sequence[int], [1, 2]),
    (dict[str, Product], {"a": Product(1, "pen", Decimal("1.20"))}),
    (dict[int, str], {1: "a"}),
    (Mapping[str, int], {"a": 1}),
    (Point, Point(1, 2.5)),
    (Literal["a", "b"], "b"),
    (Cents, Cents(3)),
    (UserId, UserId(3)),
    (int | None, None),
    (Optional[Decimal], Decimal(1)),  # noqa: UP045
    (int | str | None, "a"),
    (Product | None, None),
    (Product | None, Product(1, "pen", Decimal(1))),
    (Product | Customer, Customer(1, "a@b")),
    (Product | Customer | None, None),
    (list[Product | Customer], [Customer(1, "a@b"), Product(1, "pen", Decimal(1))]),
    (dict[str, Product | Customer | int], {"a": Customer(1, "a@b"), "b": 3}),
    (Shelf, Shelf(Customer(1, "a@b"), (Product(1, "pen", Decimal(1)),))),
    (Board, Board([1, 2], {"a": 1.0})),
    (Order, Order(id=1, total=Decimal("1.20"), at=datetime.datetime(2013, 1, 1, tzinfo=UTC), tags={"a"}, seal=b"seal")),
    (Order | None, None),
    (list[Order], [Order(id=1, total=Decimal(1), at=datetime.datetime(2013, 1, 1, tzinfo=UTC), tags=set())]),
    (StrictOrder, StrictOrder(total=Decimal("1.20"), at=datetime.datetime(2013, 1, 1, tzinfo=UTC))),
    (Aliased, Aliased(innerName=3)),
    (Product | Aliased, Aliased(innerName=3)),
    (Any, {"a": [1, 2.5, None, True, "x"]}),
    (object, [1, 2]),
]


@pytest.mark.parametrize(("hint", "value"), VALUES, ids=lambda v: str(v)[:40])
def test_a_value_comes_back_as_it_was(hint: Any, value: Any) -> None:
    codec = value_codec(hint)
    for decoded in (codec.decode_msgpack(encode_msgpack(value)), codec.decode_json(encode_json(value))):
        assert decoded == value
        assert type(decoded) is type(value)


TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (pa.Table, TABLE),
        (pa.Table, TABLE.slice(0, 0)),
        (pa.Table | None, TABLE),
        (pa.RecordBatch, TABLE.to_batches()[0]),
        (pa.RecordBatch, TABLE.to_batches()[0].slice(0, 0)),
        (pa.Array, pa.array([1, 2])),
        (pa.Int64Array, pa.array([1, 2])),
        (pa.ChunkedArray, pa.chunked_array([[1], [2, 3]])),
        (dict[str, pa.Table], {"a": TABLE}),
    ],
    ids=lambda v: str(v)[:20],
)
def test_arrow_data_comes_back_as_it_was(hint: Any, value: Any) -> None:
    codec = value_codec(hint)
    assert codec.decode_msgpack(encode_msgpack(value)) == value
    assert codec.decode_json(encode_json(value)) == value


def test_numpy_scalars_and_subclasses_of_plain_types_become_plain() -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "not the text"

    value = [np.float64(1.5), np.int32(3), np.bool_(True), Name("abc"), UserId(4)]
    assert value_codec(Any).decode_msgpack(encode_msgpack(value)) == [1.5, 3, True, "abc", 4]
    assert encode_json(value) == '[1.5,3,true,"abc",4]'


def test_a_value_that_cannot_be_encoded_names_its_type() -> None:
    class Connection:
        pass

    with pytest.raises(UsageError, match="Connection"):
        encode_msgpack({"a": [Connection()]})
    with pytest.raises(UsageError, match="Connection"):
        encode_json(Connection())
    with pytest.raises(UsageError, match="int"):
        encode_msgpack(2**70)
    with pytest.raises(UsageError):
        encode_msgpack("\ud800")


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="contains itself"):
        encode_msgpack(endless)
    with pytest.raises(UsageError, match="contains itself"):
        encode_json(endless)


def test_a_value_of_another_type_than_the_hint_says_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match=r"Product.*price"):
        value_codec(Product).decode_msgpack(encode_msgpack({"id": 1, "name": "pen"}))
    with pytest.raises(UsageError, match="int"):
        value_codec(int).decode_json('"a"')
    with pytest.raises(UsageError, match="Order"):
        value_codec(Order).decode_msgpack(encode_msgpack({"id": "x"}))
    with pytest.raises(UsageError, match="Arrow"):
        value_codec(pa.Table).decode_msgpack(encode_msgpack(b"nonsense"))
    with pytest.raises(UsageError):
        value_codec(int).decode_msgpack(b"")


def test_a_type_that_cannot_be_decoded_is_named() -> None:
    class Connection:
        pass

    with pytest.raises(UsageError, match="Connection"):
        value_codec(Connection).decode_msgpack(encode_msgpack(1))


@pytest.mark.parametrize("hint", [Customer | Twin, list[Customer | Twin], Decimal | str, bytes | str])
def test_a_union_whose_members_look_alike_when_encoded_is_refused(hint: Any) -> None:
    with pytest.raises(UsageError, match="told apart"):
        value_codec(hint)


@pytest.mark.parametrize(
    ("hint", "word"),
    [
        (Decimal | str, "optional field"),
        (list[int] | tuple[str, ...], "optional field"),
        (Unencodable, "cannot travel"),
        (Alike, "the same when encoded"),
        (SetOf, "in no order"),
        (dict[Customer, int], "keys of a dictionary"),
        (dict[frozenset[Customer], dict[Customer, int]], "keys of a dictionary"),
        (NeedsMore, "'more' does not travel"),
    ],
)
def test_what_would_never_arrive_is_refused_when_its_type_is_seen(hint: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        value_codec(hint)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (datetime.datetime, pd.Timestamp("2024-01-01 12:00", tz="Europe/Berlin")),
        (list[datetime.datetime], [pd.Timestamp("2024-01-01")]),
        (datetime.timedelta, pd.Timedelta("1s")),
        (Decimal, type("Price", (Decimal,), {})("1.50")),
        (datetime.date, type("Day", (datetime.date,), {})(2024, 1, 1)),
    ],
)
def test_objects_of_derived_classes_arrive_as_what_the_type_says(hint: Any, value: Any) -> None:
    codec: Any = value_codec(hint)
    assert codec.decode_msgpack(encode_msgpack(value)) == value
    assert codec.decode_json(encode_json(value)) == value


def test_urls_in_pydantic_models_travel() -> None:
    link = Link.model_validate({"page": "https://a.b/c?d=1", "database": "postgresql://u@h1,h2/d"})
    codec = value_codec(Link)
    assert codec.decode_msgpack(encode_msgpack(link)) == link
    assert codec.decode_json(encode_json(link)) == link


def test_what_would_lose_its_nanoseconds_and_what_is_not_a_time_is_refused() -> None:
    for value in (pd.Timestamp(1), pd.Timedelta(1), pd.NaT):
        with pytest.raises(UsageError, match=r"nanoseconds|NaTType"):
            encode_msgpack(value)


def test_a_private_field_of_attrs_which_would_be_lost_is_refused() -> None:
    attrs: Any = pytest.importorskip("attrs")
    with pytest.raises(UsageError, match="'_hidden' does not travel"):
        value_codec(list[attrs.make_class("Secretive", ["_hidden"])])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        *((Planet, member) for member in Planet),
        (Planet | None, None),
        (list[Planet], [Planet.HALF]),
        (dict[Planet, int], {Planet.DAY: 1}),
        (Literal[Suit.HEARTS, 1], Suit.HEARTS),
        (list[Customer | Product] | None, [Customer(1, "a@b")]),
        (Tree, Tree(Product(1, "p", Decimal(1)), [Tree(Customer(1, "a@b"))])),
        (Counted, COUNTED),
        (Slot, Slot(Customer(1, "a@b"), Planet.PAIR)),
        (Shelving, {"content": Customer(1, "a@b")}),
    ],
)
def test_what_msgspec_does_not_decode_arrives_as_what_it_is(hint: Any, value: Any) -> None:
    codec: Any = value_codec(hint)
    for arrived in (codec.decode_msgpack(encode_msgpack(value)), codec.decode_json(encode_json(value))):
        assert arrived == value
        assert type(arrived) is type(value)
    for wrong in ('"nothing"', '{"content": 1}', "[7.5]"):
        with pytest.raises(UsageError):
            codec.decode_json(wrong)


def test_a_record_of_a_union_may_leave_out_defaults() -> None:
    codec = value_codec(Shelf)
    assert codec.decode_json('{"content": {"id": 1, "email": "a@b"}}') == Shelf(Customer(1, "a@b"))
    with pytest.raises(UsageError, match="content"):
        codec.decode_json("{}")
    with pytest.raises(UsageError):
        codec.decode_json('{"content": {"id": 1}}')


def test_codecs_are_made_once_per_type() -> None:
    assert value_codec(list[Product]) is value_codec(list[Product])
