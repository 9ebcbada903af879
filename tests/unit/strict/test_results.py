"""What a strict host finds in results: types that cannot travel, and what is not what the annotation says."""

import datetime
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, NewType, Optional, TypedDict

import msgspec
import pydantic
import pytest

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.errors import InvalidResult, UsageError
from fusion_cluster.testing import LocalCluster


class Animal(msgspec.Struct):
    name: str


class Dog(Animal):
    tricks: list[str] = []


@dataclass
class Product:
    id: int
    price: float
    tags: Sequence[str] = field(default_factory=list)


@dataclass(eq=False)
class Nameless:
    size: int


class Model(pydantic.BaseModel):
    id: int


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


class Row(TypedDict):
    id: int


class Handle:
    """Something that no other process can have."""


ProductId = NewType("ProductId", int)

NAN = float("nan")

RIGHT: list[tuple[Any, Any]] = [
    (None, None),
    (int, 3),
    (int | None, None),
    (float, 3),
    (str, Word.RED),
    (Word, Word.RED),
    (Colour, Colour.RED),
    (ProductId, 3),
    (Annotated[int, "an id"], 3),
    (Decimal, Decimal("1.50")),
    (float, NAN),
    (list[float], [NAN, 1.0]),
    (datetime.datetime, datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)),
    (uuid.UUID, uuid.UUID(int=1)),
    (list[int], [1, 2]),
    (tuple[int, ...], (1, 2)),
    (Sequence[int], (1, 2)),
    (Sequence[int], [1, 2]),
    (Sequence[Sequence[int]], ((1,), [2])),
    (Sequence[int] | None, (1, 2)),
    (dict[str, Sequence[int]], {"a": (1, 2)}),
    (dict[str, Any], {"a": (1, [2, (3,)])}),
    (dict, {"a": 1, 2: "b"}),
    (Mapping[str, int], MappingProxyType({"a": 1})),
    (MappingProxyType[str, int], MappingProxyType({"a": 1})),
    (set[str], {"a", "b"}),
    (Set[str], frozenset({"a", "b"})),
    (Product, Product(1, 2.5, ("a", "b"))),
    (list[Product], [Product(1, 2, ("a",))]),
    (Product | None, Product(1, 2)),
    (Nameless, Nameless(3)),
    (dict[int, Nameless], {1: Nameless(3)}),
    (Dog, Dog("Rex", ["sit"])),
    (Model, Model(id=1)),
    (list[Model], [Model(id=1)]),
    (Point, Point(1, (2, 3))),
    (Row, {"id": 1}),
    (Any, (1, Product(1, 2))),
    (object, (1, 2)),
]

WRONG: list[tuple[Any, Any, str]] = [
    (int, "3", "Expected `int`, got `str`"),
    (int, True, "Expected `int`, got `bool`"),
    (int, 2.5, "Expected `int`, got `float`"),
    (int, None, "Expected `int`, got `None`"),
    (None, 3, "and has returned something else: .*Expected `null`, got `int`"),
    (str, b"x", "Expected `str`, got `bytes`"),
    (Decimal, "1.5", "it is a str where Decimal is expected"),
    (uuid.UUID, str(uuid.UUID(int=1)), "it is a str where UUID is expected"),
    (Colour, "red", "it is a str where Colour is expected"),
    (datetime.date, "2026-11-30", "it is a str where date is expected"),
    (list[int], (1, 2), r"it is a tuple where list\[int\] is expected"),
    (tuple[int, ...], [1, 2], r"it is a list where tuple\[int, ...\] is expected"),
    (list[tuple[int, int]], [[1, 2]], r"\[0\] is a list where tuple\[int, int\] is expected"),
    (dict[str, list[int]], {"a": (1,)}, r"\['a'\] is a tuple where list\[int\] is expected"),
    (Optional[list[int]], (1,), "it is a tuple where"),  # noqa: UP045
    (Product, {"id": 1, "price": 2.5}, "it is a dict where Product is expected"),
    (list[Product], [{"id": 1, "price": 2.5}], r"\[0\] is a dict where Product is expected"),
    (Product, Product("1", 2.5), "Expected `int`, got `str`"),  # type: ignore[arg-type]
    (Animal, Dog("Rex", ["sit"]), "it is a Dog where Animal is expected"),
    (list[Animal], [Animal("Tom"), Dog("Rex")], r"\[1\] is a Dog where Animal is expected"),
    (Row, {"id": 1, "name": "x"}, r"\['name'\] is not a part of Row"),
    (Model, {"id": 1}, "it is a dict where Model is expected"),
]

UNSENDABLE: list[tuple[Any, Any]] = [
    (Any, Handle()),
    (list[Any], [1, Handle()]),
    (dict[str, object], {"a": {"b": Handle()}}),
    (object, 2**64),
    (str, "\ud800"),
    (object, lambda: None),
]


def service_of(hint: Any, value: Any) -> type[ComputeService]:
    class Shelf(ComputeService):
        @compute_method
        async def item(self, number: int):  # type: ignore[no-untyped-def]
            return value

        item.body.__annotations__["return"] = hint

    return Shelf


async def read(hint: Any, value: Any) -> Any:
    service: Any = service_of(hint, value)
    async with App("shelves", [service]).local(strict=True) as host:
        return await host.service(service).item(7)


@pytest.mark.parametrize(("hint", "value"), RIGHT, ids=repr)
async def test_a_reader_is_given_what_a_reader_in_another_process_is_given(hint: Any, value: Any) -> None:
    service: Any = service_of(hint, value)
    here = await read(hint, value)
    async with LocalCluster(App("shelves", [service]), shards=1, strict=False) as cluster:
        there = await cluster.service(service).item(7)
    if hint in (Any, object):
        assert here is value  # nobody says what it is: only that it can travel is known
    else:
        assert repr(here) == repr(there) or isinstance(value, Nameless | dict | set | frozenset)
        assert type(here) is type(there)


@pytest.mark.parametrize(("hint", "value", "message"), WRONG, ids=repr)
async def test_what_is_not_as_the_annotation_says_is_refused(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidResult, match=f"^Shelf.item says that it returns .*{message}") as caught:
        await read(hint, value)
    assert caught.value.field == "return"


@pytest.mark.parametrize(("hint", "value"), UNSENDABLE, ids=lambda one: type(one).__name__)
async def test_what_cannot_travel_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(InvalidResult, match=r"^Shelf.item: its result cannot leave the process: "):
        await read(hint, value)


async def test_a_value_that_contains_itself_cannot_travel() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidResult, match=r"^Shelf.item: its result cannot leave the process: .* contains itself"):
        await read(Any, endless)


async def test_a_result_type_whose_values_cannot_be_told_apart_is_refused_when_the_host_is_made() -> None:
    with pytest.raises(UsageError, match=r"^Shelf.item: its result: .* cannot be told apart"):
        await read(list[int] | set[int], [1])


async def test_a_host_that_is_not_strict_gives_whatever_the_body_returned() -> None:
    handle = Handle()
    service: Any = service_of(int, handle)
    async with App("shelves", [service]).local(strict=False) as host:
        assert await host.service(service).item(7) is handle


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, "3", "^Shelf.item says that it returns int, and has returned something else: .*got `str`"),
        (Any, Handle(), "^Shelf.item: its result cannot leave the process: "),
    ],
)
async def test_a_cluster_that_is_not_strict_names_the_method_too(hint: Any, value: Any, message: str) -> None:
    service: Any = service_of(hint, value)
    async with LocalCluster(App("shelves", [service]), shards=1, strict=False) as cluster:
        with pytest.raises(InvalidResult, match=message):
            await cluster.service(service).item(7)


class Places(ComputeService):
    """Wherever a body runs, its result passes through the codec."""

    @compute_method
    def plain(self) -> int:
        return "plain"  # type: ignore[return-value]

    @compute_method(offload="thread")
    def thread(self) -> int:
        return "thread"  # type: ignore[return-value]

    @compute_method(consolidation_delay=0)
    async def consolidated(self) -> int:
        return "consolidated"  # type: ignore[return-value]

    @compute_method(min_cache_duration=60)
    async def kept(self) -> int:
        return "kept"  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["plain", "thread", "consolidated", "kept"])
async def test_results_of_bodies_of_all_kinds_are_looked_at(method: str) -> None:
    async with App("places", [Places]).local(strict=True) as host:
        with pytest.raises(InvalidResult, match=rf"^Places.{method}.* says that it returns int"):
            await getattr(host.service(Places), method)()


async def test_a_members_of_a_local_cluster_are_strict_by_themselves() -> None:
    async with LocalCluster(App("places", [Places]), shards=2) as cluster:
        with pytest.raises(InvalidResult, match=r"^Places.kept says that it returns int"):
            await cluster.service(Places).kept()
