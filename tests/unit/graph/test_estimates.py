"""What values weigh, by estimate: near the truth where that can be had, and never a matter of seconds."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import sys
import time
from collections import OrderedDict, UserDict, deque
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy
import pyarrow
import pydantic
import pytest

from fusion_cluster.graph.computing.retention import estimate_bytes

TEXT = "x" * 10_000


@dataclasses.dataclass
class Plain:
    name: str
    text: str


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str


@dataclasses.dataclass(slots=True)
class SlottedChild(Slotted):
    text: str


class Mixed(Slotted):
    """Slots from a base, and a `__dict__` of its own."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name)
        self.text = text


class Struct(msgspec.Struct):
    name: str


class StructChild(Struct):
    text: str


class Model(pydantic.BaseModel):
    name: str
    text: str


class OneSlot:
    __slots__ = "text"

    def __init__(self, text: str) -> None:
        self.text = text


class DocumentedSlots:
    __slots__ = {"text": "what is written"}

    def __init__(self, text: str) -> None:
        self.text = text


class WeakSlots:
    __slots__ = ("__weakref__", "missing", "text")

    def __init__(self, text: str) -> None:
        self.text = text


@pytest.mark.parametrize(
    "value",
    [
        *(TEXT, TEXT.encode(), bytearray(TEXT.encode()), memoryview(TEXT.encode())),
        *([TEXT], (TEXT,), {TEXT}, frozenset({TEXT}), {"a": TEXT}, {TEXT: "a"}, deque([TEXT])),
        *(OrderedDict(a=TEXT), UserDict(a=TEXT), SimpleNamespace(text=TEXT), {"a": [{"b": (TEXT,)}]}),
        *(Plain("a", TEXT), SlottedChild("a", TEXT), SlottedChild(TEXT, "a"), Mixed("a", TEXT), Mixed(TEXT, "a")),
        *(
            StructChild("a", TEXT),
            StructChild(TEXT, "a"),
            Model(name="a", text=TEXT),
            OneSlot(TEXT),
            DocumentedSlots(TEXT),
            WeakSlots(TEXT),
        ),
        *([Plain("a", TEXT)], {"a": Model(name=TEXT, text="a")}, (StructChild("a", TEXT),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_value_holds_counts(value: object) -> None:
    assert 10_000 <= estimate_bytes(value) <= 13_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        10**100,
        1.5,
        "",
        "a",
        b"",
        (),
        [],
        {},
        object(),
        decimal.Decimal(1),
        datetime.datetime.min,
        int,
        print,
    ],
    ids=lambda value: "object" if type(value) is object else repr(value),
)
def test_what_holds_nothing_weighs_what_python_says(value: object) -> None:
    assert estimate_bytes(value) == sys.getsizeof(value)


def test_arrays_and_tables_say_themselves_what_they_weigh() -> None:
    array = numpy.zeros((1000, 1000))
    table = pyarrow.table({"a": list(range(1000)), "b": [TEXT] * 1000})
    assert array.nbytes <= estimate_bytes(array) <= array.nbytes + 1000
    assert table.nbytes <= estimate_bytes(table) <= table.nbytes + 1000
    assert estimate_bytes({"array": array, "tables": [table]}) >= array.nbytes + table.nbytes
    view = array[:10]
    assert estimate_bytes(view) < 100_000


@pytest.mark.parametrize("count", [1, 16, 17, 1000, 100_000])
def test_long_containers_are_estimated_from_a_sample(count: int) -> None:
    rows = [(index, f"name of {index:8}", float(index)) for index in range(count)]
    row = sys.getsizeof(rows[0]) + sum(map(sys.getsizeof, rows[0]))
    for value in (rows, tuple(rows), dict(enumerate(rows)), deque(rows)):
        assert 0.7 * count * row <= estimate_bytes(value) <= 2 * count * row + 1000


def test_what_is_held_many_times_weighs_once() -> None:
    assert estimate_bytes([TEXT] * 1000) < 2 * sys.getsizeof([TEXT] * 1000) + 11_000
    assert estimate_bytes(dict.fromkeys(range(1000), TEXT)) < 150_000
    assert estimate_bytes([Plain("a", TEXT) for _ in range(10)]) < 20_000


def test_cycles_end() -> None:
    loop: list[Any] = []
    loop += [loop, loop, {"a": loop}]
    assert 0 < estimate_bytes(loop) < 1000
    node = SimpleNamespace(next=None)
    node.next = SimpleNamespace(next=node)
    assert 0 < estimate_bytes(node) < 2000


def test_nothing_is_looked_into_without_end() -> None:
    deep: Any = None
    for _ in range(10_000):
        deep = [deep]
    broad: Any = TEXT
    for _ in range(5):
        broad = {index: broad if index == 0 else [index] * 20 for index in range(40)}
    bushy: Any = 1
    for _ in range(8):
        bushy = [dict.fromkeys(range(20), bushy), [bushy, object()] * 20]
    forest = [
        [[[[object() for _ in range(17)] for _ in range(17)] for _ in range(17)] for _ in range(9)] for _ in range(9)
    ]
    for value in (deep, broad, bushy, forest):
        began_s = time.perf_counter()
        assert estimate_bytes(value) > 0
        assert time.perf_counter() - began_s < 0.5


# -- values that do not want to be weighed -----------------------------------------------------------------------------
class Evasive:
    """Raises whatever is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Boastful:
    nbytes = "a lot"

    def __len__(self) -> int:
        return 10**9


class Flag(enum.Enum):
    ON = 1


class Lazy:
    """Its property costs something, and must not be called."""

    @property
    def text(self) -> str:
        raise AssertionError("a property was called")


@pytest.mark.parametrize(
    "value", [Evasive(), Boastful(), Flag.ON, Lazy(), [Evasive(), Lazy()]], ids=lambda v: type(v).__name__
)
def test_odd_objects_are_weighed_all_the_same(value: object) -> None:
    assert 0 < estimate_bytes(value) < 5_000


def test_a_size_that_an_object_tells_of_itself_counts() -> None:
    class Native:
        def __sizeof__(self) -> int:
            return 1_000_000

    assert 1_000_000 <= estimate_bytes(Native()) < 1_001_000
