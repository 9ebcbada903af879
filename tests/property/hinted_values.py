"""Type hints of arguments, nested at will, and values for them: in every spelling that a caller may choose."""

from __future__ import annotations

import datetime
import enum
import fractions
import ipaddress
import pathlib
import types
import uuid
import zoneinfo
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import hypothesis.strategies as st
import msgspec
import pydantic

T = TypeVar("T")


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 0
    HIGH = 1


class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Day(datetime.date):
    pass


@dataclass(frozen=True)
class Place:
    x: float
    tags: frozenset[str] = frozenset()
    note: int = field(default=0, compare=False)


@dataclass
class Basket:
    items: list[int]
    owner: Place | None = None
    more: Basket | None = None


class Range(msgspec.Struct, frozen=True):
    low: float
    high: Decimal = Decimal(1)


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True, array_like=True, rename="camel"):
    name_of: str
    weight: float = 1.0


class Corner(NamedTuple):
    x: int
    y: float = 0.0


class Money(pydantic.BaseModel):
    amount: Decimal
    parts: set[int] = pydantic.Field(default_factory=set, alias="pieces", validate_default=True)
    model_config = pydantic.ConfigDict(validate_by_name=True)


class Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    at: datetime.datetime
    side: Side = Side.LEFT


class Options(TypedDict, total=False):
    limit: int
    names: frozenset[str]


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


CustomerId = NewType("CustomerId", int)
Short = Annotated[str, msgspec.Meta(max_length=1000)]

TIMEZONES: st.SearchStrategy[datetime.tzinfo] = st.sampled_from(
    [
        *(datetime.UTC, datetime.timezone(datetime.timedelta(hours=2)), zoneinfo.ZoneInfo("UTC")),
        *(zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/New_York")),
    ]
)
AMBIGUOUS_HOURS = st.sampled_from(
    [datetime.datetime(2024, 10, 27, hour, 30, fold=fold) for hour in range(4) for fold in (0, 1)]
)
INTS = st.integers(-3, 3) | st.integers(-(2**63), 2**64 - 1)
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan"), -float("nan"), float("inf")]) | st.floats()
DATETIMES = st.one_of(
    AMBIGUOUS_HOURS,
    st.builds(lambda at, zone: at.replace(tzinfo=zone), AMBIGUOUS_HOURS, TIMEZONES),
    st.datetimes(datetime.datetime(2, 1, 2), datetime.datetime(9998, 1, 1), timezones=st.one_of(st.none(), TIMEZONES)),
)
FEW_TEXTS = st.sampled_from(["", "a", "red", "blue", "é"])
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: INTS | st.sampled_from([1.0, True, Decimal(1), Level.HIGH, Whole(1), fractions.Fraction(2), 1 + 0j, "1", 1.5]),
    bool: st.booleans() | st.sampled_from([0, 1, 1.0, Level.HIGH, 2]),
    float: FLOATS | st.sampled_from([0, 1, True, Decimal("2.5"), 2**53 + 1, 10**400]),
    str: FEW_TEXTS | st.text(max_size=3) | st.sampled_from([Text("a"), Color.RED, "\ud83d", b"a"]),
    bytes: st.binary(max_size=2) | st.sampled_from([bytearray(b"a"), memoryview(b"a"), "a"]),
    bytearray: st.binary(max_size=2).map(bytearray) | st.just(b"a"),
    type(None): st.none(),
    Decimal: st.decimals()
    | st.sampled_from([*map(Decimal, ("1", "1.00", "1E+2", "-0.0", "NaN", "sNaN", "1E+40")), 1, 0.5]),
    uuid.UUID: st.uuids(),
    datetime.datetime: DATETIMES,
    datetime.date: st.dates() | st.sampled_from([Day(2024, 1, 1), datetime.datetime(2024, 1, 1)]),
    datetime.time: st.times(timezones=st.one_of(st.none(), TIMEZONES)),
    datetime.timedelta: st.timedeltas(),
    Color: st.sampled_from([*Color, "red", "blue", "green"]),
    Level: st.sampled_from([*Level, 0, 1, True, 1.0]),
    Side: st.sampled_from([*Side, "left"]),
    Rights: st.sampled_from([Rights.READ, Rights.READ | Rights.WRITE, 3]),
    Literal[1, "a"]: st.sampled_from([1, True, 1.0, "a", Text("a"), 2]),
    Literal[True, 1]: st.sampled_from([1, True, 1.0]),
    CustomerId: INTS,
    Short: FEW_TEXTS,
    complex: st.complex_numbers() | st.sampled_from([1, 1.0, -0.0, complex(0, -0.0)]),
    fractions.Fraction: st.fractions() | st.integers(-3, 3),
    pathlib.Path: FEW_TEXTS.map(pathlib.Path),
    pathlib.PurePosixPath: st.sampled_from([pathlib.PurePosixPath("a/b"), pathlib.Path("a/b"), "a/b"]),
    ipaddress.IPv4Address: st.ip_addresses(v=4),
    ipaddress.IPv6Network: st.sampled_from([ipaddress.IPv6Network("2001:db8::/32")]),
    zoneinfo.ZoneInfo: TIMEZONES,
}
RECORDS: tuple[Any, ...] = (
    *(
        Place,
        Basket,
        Range,
        Cat,
        Dog,
        Corner,
        Money,
        Frozen,
        Options,
        Box[int],
        Box[tuple[float, bool]],
        Box[Decimal | None],
    ),
)
UNIONS: tuple[Any, ...] = (
    *(
        int | float,
        bool | int,
        int | str,
        float | Decimal | None,
        datetime.datetime | int,
        Cat | Dog | None,
        Color | int,
    ),
    *(Place | Range, Place | int, list[int] | str | None, tuple[int, ...] | bool, Level | str),
)
HASHABLE_SCALARS = tuple(hint for hint in SCALARS if hint is not bytearray)
HASHABLE: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(HASHABLE_SCALARS) | st.sampled_from([Place, Range, Corner, Frozen, int | float, int | str]),
    lambda inner: st.one_of(
        inner.map(lambda item: tuple[item, ...]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda items: tuple[items]),  # type: ignore[valid-type]
        inner.map(lambda item: frozenset[item]),  # type: ignore[valid-type]
    ),
    max_leaves=3,
)
HINTS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([*SCALARS, *RECORDS, *UNIONS, Any, object, list, dict, tuple, set]) | HASHABLE,
    lambda inner: st.one_of(
        inner.map(lambda item: list[item]),  # type: ignore[valid-type]
        inner.map(lambda item: Sequence[item]),  # type: ignore[valid-type]
        inner.map(lambda item: Union[item, None]),  # noqa: UP007
        st.tuples(inner, inner).map(lambda items: tuple[items]),  # type: ignore[valid-type]
        st.tuples(st.sampled_from([str, int, Color, uuid.UUID, tuple[int, str]]), inner).map(
            lambda items: Mapping[items] if items[0] is int else dict[items]  # type: ignore[valid-type,misc]
        ),
        HASHABLE.map(lambda item: set[item]),  # type: ignore[valid-type]
        HASHABLE.map(lambda item: Set[item]),  # type: ignore[valid-type]
    ),
    max_leaves=4,
)
FREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | FLOATS
    | FEW_TEXTS
    | st.sampled_from([Color.RED, Level.HIGH, b"a"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(FEW_TEXTS | st.integers(0, 2), inner, max_size=3),
        st.sets(st.integers(0, 3) | FEW_TEXTS, max_size=3),
        st.just(Decimal(1)),
    ),
    max_leaves=6,
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values for a hint, in many spellings; some do not fit it."""
    if hint in (Any, object):
        return FREE
    known = SCALARS.get(hint)
    if known is not None:
        return known
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([values(member) for member in arguments])
    if hint in (list, tuple) or origin in (list, Sequence):
        items = st.lists(values(arguments[0]) if arguments else FREE, max_size=3)
        return items | items.map(tuple)
    if hint is set:
        return st.sets(st.integers(0, 3) | FEW_TEXTS, max_size=3)
    if hint is dict:
        return st.dictionaries(FEW_TEXTS, FREE, max_size=3)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(values(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(values, arguments)) | st.tuples(*map(values, arguments)).map(list)
    if origin in (frozenset, set, Set):
        hashable = values(arguments[0]).filter(_is_hashable)
        return st.lists(hashable, max_size=3).map(frozenset if origin is frozenset else set)
    if origin in (dict, Mapping):
        keys = values(arguments[0]).filter(_is_hashable)
        return st.dictionaries(keys, values(arguments[1]), max_size=3)
    return _records(hint)


def _records(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Box:
        return st.builds(Box, values(get_args(hint)[0]))
    if hint is Basket:
        return st.builds(
            Basket, values(list[int]), values(Place | None), st.none() | st.builds(Basket, values(list[int]))
        )
    if hint is Money:
        return st.builds(
            Money, amount=st.decimals(allow_nan=False, allow_infinity=False), parts=st.sets(st.integers(0, 3))
        )
    if hint is Frozen:
        return st.builds(Frozen, at=DATETIMES, side=st.sampled_from(Side))
    if hint is Options:
        named = {"limit": values(int), "names": values(frozenset[str]), "unknown": st.just(1)}
        return st.fixed_dictionaries({}, optional=named)
    by_record: dict[Any, tuple[st.SearchStrategy[Any], ...]] = {
        Place: (values(float), values(frozenset[str]), values(int)),
        Range: (values(float), values(Decimal)),
        Cat: (values(int),),
        Dog: (values(str), values(float)),
        Corner: (values(int), values(float)),
    }
    fields = by_record[hint]
    made = st.builds(hint, *fields)
    if hint is Place:
        return made | st.fixed_dictionaries({"x": values(float)}, optional={"unknown": st.just(1)})
    return made | st.tuples(*fields) if hint is Corner else made


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
