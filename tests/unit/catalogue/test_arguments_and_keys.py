"""A.11: what makes two calls the same call."""

from __future__ import annotations

import datetime
import enum
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, TypeVar

import pytest

from fusion_cluster.catalogue.catalogue import methods_of
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.signature import REQUIRED, Signature
from fusion_cluster.errors import InvalidArgument, UsageError
from fusion_cluster.graph import Graph, Key, compute_method
from fusion_cluster.wire.codec import EncodedArguments
from fusion_cluster.wire.traits import is_told_apart_by_python

CustomerId = NewType("CustomerId", int)
Anything = TypeVar("Anything")
Host = Callable[[Any], Any]


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Point:
    x: float


@dataclass(frozen=True)
class Chain:
    length: float
    rest: Chain | None = None


@dataclass(frozen=True)
class Sample:
    x: float
    note: str = field(default="", compare=False)


class Echo(ComputeService):
    def __init__(self) -> None:
        self.log: list[str] = []

    def _echo(self, *values: object) -> str:
        self.log.append(repr(values))
        return self.log[-1]

    @compute_method
    async def many(self, a: int, b: int = 2, *, c: int = 3) -> str:
        return self._echo(a, b, c)

    @compute_method
    async def none(self) -> str:
        return self._echo()

    @compute_method
    async def unknown(self, value) -> str:  # type: ignore[no-untyped-def]
        return self._echo(value)

    @compute_method
    async def number(self, value: int | float) -> str:
        return self._echo(value)

    @compute_method
    async def whole(self, value: int) -> str:
        return self._echo(value)

    @compute_method
    async def real(self, value: float) -> str:
        return self._echo(value)

    @compute_method
    async def flag(self, value: bool) -> str:
        return self._echo(value)

    @compute_method
    async def text(self, value: str) -> str:
        return self._echo(value)

    @compute_method
    async def point(self, value: tuple[float, ...]) -> str:
        return self._echo(value)

    @compute_method
    async def positional(self, value: int, /) -> str:
        return self._echo(value)


@pytest.fixture
def echo(host: Host) -> Echo:
    service: Echo = host(Echo())
    return service


async def test_positional_keyword_and_defaulted_spellings_of_one_call_are_one_key(echo: Echo) -> None:
    first = echo.many(1)
    assert first is echo.many(1, 2)
    assert first is echo.many(1, b=2)
    assert first is echo.many(b=2, a=1)
    assert first is echo.many(1, 2, c=3)
    await first
    assert first is echo.many(a=1, b=2, c=3)
    assert echo.log == ["(1, 2, 3)"]
    assert first.key == Key("Echo", "many", (1, 2, 3))
    assert str(first.key) == "Echo.many(1, 2, 3)"
    assert echo.many(1, c=4) is not first


async def test_one_argument_may_be_spelled_by_name(echo: Echo) -> None:
    assert echo.whole(7) is echo.whole(value=7)
    assert echo.none() is echo.none()


@pytest.mark.parametrize(
    ("args", "kwargs", "field"),
    [
        ((), {}, "a"),
        ((1, 2, 3), {}, "c"),
        ((1,), {"d": 1}, "d"),
        ((1,), {"a": 1}, "a"),
    ],
)
async def test_a_wrong_call_names_the_parameter(
    echo: Echo, args: tuple[Any, ...], kwargs: dict[str, Any], field: str
) -> None:
    for call in (echo.many, echo.many.peek, echo.many.invalidate, echo.many.changes):
        with pytest.raises(InvalidArgument) as caught:
            call(*args, **kwargs)
        assert caught.value.field == field
        assert "Echo.many" in str(caught.value)


async def test_a_surplus_argument_is_refused_also_when_the_rest_is_cached(echo: Echo) -> None:
    one: Any = echo.whole
    await one(1)
    wrong_calls: list[tuple[tuple[int, ...], dict[str, int]]] = [((1, 2), {}), ((), {}), ((1,), {"other": 2})]
    for args, kwargs in [*wrong_calls, ((1,), {"value": 1})]:
        with pytest.raises(InvalidArgument):
            one(*args, **kwargs)
    none: Any = echo.none
    await none()
    with pytest.raises(InvalidArgument):
        none(1)
    by_name: Any = echo.positional
    with pytest.raises(InvalidArgument, match="no parameter 'value' to give by name"):
        by_name(value=1)


async def test_an_argument_that_does_not_fit_its_type_names_the_parameter(echo: Echo) -> None:
    wrong_calls: list[tuple[Any, Any]] = [(echo.whole, [1]), (echo.text, [1]), (echo.text, 1), (echo.whole, "1")]
    for call, value in [*wrong_calls, (echo.whole, 1.5), (echo.flag, 2), (echo.real, "1"), (echo.point, [1, "a"])]:
        with pytest.raises(InvalidArgument, match=r"Echo\.\w+: value: Expected `\w+`, got `\w+`") as caught:
            call(value)
        assert caught.value.field == "value"


async def test_an_argument_that_cannot_be_encoded_names_the_parameter(echo: Echo) -> None:
    for value in (object(), (1, object()), lambda: 1, 2**64, "half of a character: \ud83d", ("\ud83d",), 10**400):
        with pytest.raises(InvalidArgument, match=r"cannot be encoded|cannot travel") as caught:
            echo.unknown(value)
        assert caught.value.field == "value"
    with pytest.raises(InvalidArgument, match="cannot be encoded"):
        echo.text("half of a character: \ud83d")
    with pytest.raises(InvalidArgument, match="cannot be encoded"):
        echo.whole(2**64)


async def test_numbers_of_several_kinds_are_different_keys_when_the_type_admits_them(echo: Echo) -> None:
    for _ in range(2):
        assert [await echo.unknown(v) for v in (1, 1.0, True)] == ["(1,)", "(1.0,)", "(True,)"]
        assert [await echo.number(v) for v in (1, 1.0)] == ["(1,)", "(1.0,)"]
    assert echo.log == ["(1,)", "(1.0,)", "(True,)", "(1,)", "(1.0,)"]
    assert echo.number(True) is echo.number(1), "no bool is asked for, and True is an int"
    await echo.unknown.invalidate(1.0)
    assert echo.unknown.peek(1) is not None
    assert echo.unknown.peek(1.0) is None
    assert echo.unknown.peek(True) is not None


async def test_kinds_are_told_apart_inside_of_what_has_no_type(echo: Echo) -> None:
    assert await echo.unknown((1, (2,))) == "([1, [2]],)"
    assert await echo.unknown((1, (2.0,))) == "([1, [2.0]],)"
    assert await echo.unknown(frozenset({1})) == "([1],)"
    assert await echo.unknown(frozenset({True})) == "([True],)"
    assert echo.unknown((1, (2,))) is echo.unknown([1, [2]])


async def test_a_number_becomes_the_kind_that_its_type_says(echo: Echo) -> None:
    assert await echo.real(1) == "(1.0,)"
    assert echo.real(1) is echo.real(1.0) is echo.real(True)
    assert await echo.whole(True) == "(1,)"
    assert echo.whole(1) is echo.whole(1.0) is echo.whole(Level.LOW)  # type: ignore[arg-type]
    assert await echo.flag(1) == "(True,)"  # type: ignore[arg-type]
    assert await echo.text(Color.RED) == "('red',)"
    assert await echo.point((1, 2)) == "((1.0, 2.0),)"
    assert echo.log == ["(1.0,)", "(1,)", "(True,)", "('red',)", "((1.0, 2.0),)"]


async def test_negative_zero_and_nan_are_one_key_each(echo: Echo) -> None:
    assert await echo.real(-0.0) == "(0.0,)"
    assert echo.real(0.0) is echo.real(-0.0)
    assert echo.real(math.nan) is echo.real(float("nan"))
    assert echo.unknown(math.nan) is echo.unknown(float("nan"))


async def test_the_owner_finds_a_key_by_plain_canonical_arguments(echo: Echo, graph: Graph) -> None:
    function = graph.functions["Echo.unknown"]
    assert function.lookup((True,)) is echo.unknown(True)
    assert function.lookup((1,)) is echo.unknown(1) is not echo.unknown(True)
    await echo.unknown(1)
    assert graph.peek(Key("Echo", "unknown", (1,))) is echo.unknown(1)
    assert graph.peek(Key("Echo", "unknown", (True,))) is None
    assert graph.peek(Key("Echo", "no_such", ())) is None


@pytest.mark.parametrize(
    ("hint", "are_compared_by_bytes"),
    [
        (int, False),
        (str, False),
        (None, False),
        (int | None, False),
        (float | str, False),
        (CustomerId, False),
        (Annotated[int, "id"], False),
        (Literal[1, 2], False),
        (Literal["a"], False),
        (Level, False),
        (Color, False),
        (Decimal, False),
        (tuple[int, str], False),
        (tuple[tuple[str, ...], int | None], False),
        (float, False),
        (Decimal | None, False),
        (frozenset[str], False),
        (tuple[float, ...], False),
        (tuple[Decimal], False),
        (Point, False),
        (Sample, True),
        (Chain, False),
        (datetime.datetime, False),
        (datetime.time, True),
        (list[int], True),
        (Any, True),
        (object, True),
        (int | float, True),
        (bool | int, True),
        (Literal[1, True], True),
        (tuple[int | bool, ...], True),
        (tuple[Any, ...], True),
        (tuple, True),
        (frozenset, True),
        (Anything, True),
        (complex | Decimal, True),
    ],
)
def test_arguments_are_compared_by_bytes_where_equal_values_may_differ(hint: Any, are_compared_by_bytes: bool) -> None:
    assert is_told_apart_by_python(hint) is not are_compared_by_bytes


async def test_a_frozen_record_may_contain_records_of_its_own_kind(host: Host) -> None:
    class Chains(ComputeService):
        @compute_method
        async def length(self, chain: Chain) -> float:
            return chain.length + (0.0 if chain.rest is None else await self.length(chain.rest))

    chains = host(Chains())
    assert await chains.length(Chain(1.0, Chain(2.0))) == 3.0
    assert chains.length(Chain(1, Chain(2))) is chains.length(Chain(1.0, Chain(2.0)))
    assert chains.length(Chain(math.nan)) is chains.length(Chain(math.nan))


def test_encoded_arguments_are_equal_when_their_bytes_are() -> None:
    one, other = EncodedArguments((1,), b"\x91\x01"), EncodedArguments((True,), b"\x91\xc3")
    assert one != other
    assert one == EncodedArguments((1.0,), b"\x91\x01")
    assert {one: "int", other: "bool"}[pickle.loads(pickle.dumps(other))] == "bool"
    assert one != (1,), "their hashes differ"
    assert list(one) == [1]


# -- signatures ------------------------------------------------------------------------------------------------------
def test_a_signature_tells_parameters_result_and_documentation() -> None:
    async def total(self: object, cart_id: str, /, limit: int = 3, *, exact: bool = False) -> Decimal:
        """What a cart costs."""
        return Decimal()

    signature = Signature(total, "Carts.total")
    assert signature.name == "Carts.total"
    assert [(p.name, p.type, p.is_required, p.is_keyword_only) for p in signature.parameters] == [
        ("cart_id", str, True, False),
        ("limit", int, False, False),
        ("exact", bool, False, True),
    ]
    assert signature.parameters[0].default is REQUIRED
    assert signature.result_type is Decimal
    assert signature.documentation == "What a cart costs."
    assert signature.bind(("c1",), {"exact": 1}) == ("c1", 3, True)


def test_arguments_from_the_wire_stand_in_order_keyword_only_ones_too() -> None:
    async def method(self: object, a: int, *, b: int = 2, c: int = 3) -> None: ...

    signature = Signature(method, "S.method")
    assert signature.canonicalise([1, 5]) == (1, 5, 3)
    assert signature.call(lambda a, *, b, c: (a, b, c), (1, 5, 3)) == (1, 5, 3)
    with pytest.raises(InvalidArgument, match="takes 3 arguments, 4 were given") as caught:
        signature.canonicalise([1, 2, 3, 4])
    assert caught.value.field == "c"
    with pytest.raises(InvalidArgument, match="'a' is missing"):
        signature.canonicalise([])


def test_type_hints_may_name_what_is_local_to_the_enclosing_function_and_used_in_the_body() -> None:
    class Local:
        pass

    class Service(ComputeService):
        @compute_method
        async def get(self, key: int) -> Local:
            return Local()

    class Unfinished(ComputeService):
        @compute_method
        async def get(self, key: Local) -> Later:
            assert isinstance(key, Local)
            return Later()

    (unfinished,) = methods_of(Unfinished)
    signature = unfinished.signature
    assert signature.parameters[0].type is Local

    class Later:
        pass

    assert signature.result_type is Later
    assert methods_of(Service)[0].signature.result_type is Local


def test_a_type_hint_that_cannot_be_resolved_is_a_usage_error() -> None:
    async def method(self: object, a: NoSuchType) -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    signature = Signature(method, "S.method")
    assert signature.result_type is int
    with pytest.raises(UsageError, match="NoSuchType") as caught:
        _ = signature.parameters
    assert caught.value.field == "a"


def test_star_arguments_are_refused_where_the_method_is_written() -> None:
    with pytest.raises(UsageError, match=r"\*args") as caught:

        @compute_method
        async def method(self: object, *args: int) -> None: ...

    assert caught.value.field == "args"
    with pytest.raises(UsageError, match="self"):

        @compute_method  # type: ignore[arg-type]
        async def lonely() -> None: ...

    with pytest.raises(UsageError, match="must be an async def"):
        compute_method(len)
