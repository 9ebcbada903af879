from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from fusion_cluster.errors import InvalidArgument
from fusion_cluster.wire.codec import MAX_ARGUMENTS_BYTES, ArgumentsCodec, encode_json, encode_msgpack
from tests.unit.wire.wire_signatures import signature_of


@dataclass(frozen=True)
class Place:
    x: float
    tags: frozenset[str] = frozenset()


class Money(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    amount: Decimal


class Corner(NamedTuple):
    x: int
    y: int


class Range(msgspec.Struct, frozen=True):
    low: float
    high: Decimal = Decimal(1)


async def get(self: object, product_id: int) -> None: ...
async def search(self: object, text: str, limit: int = 10, *, exact: bool = False) -> None: ...
async def ratio(self: object, value: float) -> None: ...
async def price(self: object, amount: Decimal, at: datetime.datetime | None = None) -> None: ...
async def near(self: object, place: Place, ids: tuple[int, ...] = (), names: frozenset[str] = frozenset()) -> None: ...
async def anything(self: object, value: Any, other=None) -> None: ...  # type: ignore[no-untyped-def]
async def pay(self: object, money: Money) -> None: ...
async def between(self: object, range: Range) -> None: ...
async def corner(self: object, corner: Corner) -> None: ...
async def listed(self: object, items: list[int]) -> None: ...
async def nothing(self: object) -> None: ...


def codec(function: Callable[..., Any]) -> ArgumentsCodec:
    return signature_of(function).codec


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (nothing, ()),
        (get, (5,)),
        (search, ("a", 3, True)),
        (ratio, (1.0,)),
        (price, (Decimal("1.5"), datetime.datetime(2013, 1, 1, tzinfo=datetime.UTC))),
        (price, (Decimal("1.5"), None)),
        (near, (Place(1.5, frozenset({"a", "b"})), (1, 2), frozenset({"x", "y"}))),
        (anything, ("a", 5)),
        (pay, (Money(amount=Decimal(1)),)),
        (between, (Range(1.5, Decimal(2)),)),
        (corner, (Corner(1, 2),)),
    ],
)
def test_arguments_come_back_as_they_were(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    its = codec(function)
    assert tuple(its.decode_msgpack(its.encode(arguments))) == arguments
    assert tuple(its.decode_json(its.encode_json(arguments))) == arguments
    assert tuple(its.from_builtins(msgspec.json.decode(its.encode_json(arguments)))) == arguments


@pytest.mark.parametrize(
    ("function", "one", "other"),
    [
        (ratio, (0.0,), (-0.0,)),
        (price, (Decimal("1.0"), None), (Decimal("1.00"), None)),
        (price, (Decimal("100"), None), (Decimal("1E+2"), None)),
        (price, (Decimal(0), None), (Decimal("-0.00"), None)),
        (
            price,
            (Decimal(1), datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.UTC)),
            (
                Decimal(1),
                datetime.datetime(2013, 1, 1, 14, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            ),
        ),
        (near, (Place(1), (True, 2), frozenset()), (Place(1.0), (1, 2), frozenset())),
        (
            near,
            (Place(1.0), (), frozenset(["a", "b", "c", "d", "e"])),
            (Place(1.0), (), frozenset(["e", "d", "c", "b", "a"])),
        ),
        (pay, (Money(amount=Decimal("1.0")),), (Money(amount=Decimal("1.00")),)),
        (between, (Range(1),), (Range(1.0, Decimal("1.0")),)),
        (anything, (frozenset({1, "a", None}), None), (frozenset({None, "a", 1}), None)),
        (anything, ({"b": 1, "a": ({1, 2},)}, None), ({"a": ({2, 1},), "b": 1}, None)),
    ],
)
def test_equal_arguments_have_equal_bytes(
    function: Callable[..., Any], one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    assert one == other
    its, signature = codec(function), signature_of(function)
    one, other = signature.canonicalise(one), signature.canonicalise(other)
    assert its.encode(one) == its.encode(other)
    assert its.encode_one(0, one) == its.encode_one(0, other)


def test_equal_dictionaries_have_equal_bytes_whatever_their_order_and_keys() -> None:
    its = codec(anything)
    one = {"y": 2.0, (2, b"3"): {"a": 1, "b": frozenset("pqr")}}
    other = {(2, b"3"): {"b": frozenset("rqp"), "a": 1}, "y": 2.0}
    assert one == other
    assert its.encode((one, None)) == its.encode((other, None))
    assert its.encode((one, None)) != its.encode((one | {"y": 2.5}, None))


def test_numbers_of_different_types_have_different_bytes_where_the_type_lets_them_differ() -> None:
    its = codec(anything)
    assert len({its.encode((value, None)) for value in (1, 1.0, True)}) == 3


def test_arguments_that_are_no_keys_travel_exactly_as_they_are() -> None:
    its = ArgumentsCodec("Service.price", signature_of(price).parameters, is_key=False)
    (amount, _) = its.decode_msgpack(its.encode((Decimal("1.20"), None)))
    assert str(amount) == "1.20"


def test_missing_trailing_arguments_get_their_defaults() -> None:
    its = codec(search)
    assert its.decode_json('["a"]') == ("a", 10, False)
    assert its.decode_msgpack(encode_msgpack(["a", 5])) == ("a", 5, False)
    assert its.from_builtins(["a"]) == ("a", 10, False)


def test_an_int_for_a_float_parameter_is_a_float() -> None:
    for decoded in (codec(ratio).decode_json("[1]"), codec(ratio).decode_msgpack(encode_msgpack([1]))):
        assert type(decoded[0]) is float


@pytest.mark.parametrize(
    ("function", "arguments", "field"),
    [
        (get, [], "product_id"),
        (get, ["a"], "product_id"),
        (get, [1.5], "product_id"),
        (get, [True], "product_id"),
        (get, [None], "product_id"),
        (get, [2**80], "product_id"),
        (get, [1, 2], "arguments"),
        (get, {"product_id": 1}, "arguments"),
        (get, None, "arguments"),
        (nothing, [1], "arguments"),
        (search, ["a", "b"], "limit"),
        (search, ["a", 1, 1], "exact"),
        (price, ["x"], "amount"),
        (price, ["1", "yesterday"], "at"),
        (near, [{"x": "a"}], "place"),
        (near, [{}], "place"),
        (near, [{"x": 1}, [1, "a"]], "ids"),
        (pay, [{"amount": "x"}], "money"),
        (pay, [1], "money"),
    ],
)
def test_wrong_arguments_are_refused_naming_the_parameter(
    function: Callable[..., Any], arguments: Any, field: str
) -> None:
    its = codec(function)
    with pytest.raises(InvalidArgument) as from_json:
        its.decode_json(msgspec.json.encode(arguments))
    assert from_json.value.field == field
    assert field.rstrip("s") in from_json.value.message
    if arguments != [2**80]:
        with pytest.raises(InvalidArgument) as from_msgpack:
            its.decode_msgpack(msgspec.msgpack.encode(arguments))
        assert from_msgpack.value.field == field
    if isinstance(arguments, list):
        with pytest.raises(InvalidArgument) as from_builtins:
            its.from_builtins(arguments)
        assert from_builtins.value.field == field


def test_a_fault_inside_an_argument_is_located() -> None:
    with pytest.raises(InvalidArgument, match=r"place\.x"):
        codec(near).decode_json('[{"x": "a"}]')


def test_an_argument_that_cannot_be_encoded_names_its_parameter() -> None:
    class Connection:
        pass

    with pytest.raises(InvalidArgument) as caught:
        codec(anything).encode((1, Connection()))
    assert caught.value.field == "other"
    assert "Connection" in caught.value.message
    with pytest.raises(InvalidArgument):
        codec(get).encode((2**70,))


@pytest.mark.parametrize("depth", [100, 5000, 1_000_000])
def test_deeply_nested_arguments_are_refused(depth: int) -> None:
    for function in (get, anything, near, pay):
        with pytest.raises(InvalidArgument):
            codec(function).decode_json("[" * depth + "]" * depth)
        with pytest.raises(InvalidArgument):
            codec(function).decode_json('{"x":' * depth)
        with pytest.raises(InvalidArgument):
            codec(function).decode_msgpack(b"\x91" * depth + b"\x01")
        with pytest.raises(InvalidArgument):
            codec(function).decode_msgpack(b"\x91" + b"\x81\xa1x" * depth + b"\x01")


def test_oversized_arguments_are_refused_unread() -> None:
    with pytest.raises(InvalidArgument, match="bytes long"):
        codec(anything).decode_msgpack(b"\x91" + b"\x00" * MAX_ARGUMENTS_BYTES)
    with pytest.raises(InvalidArgument, match="bytes long"):
        codec(anything).decode_json("[" + " " * MAX_ARGUMENTS_BYTES + "1]")


@pytest.mark.parametrize(
    "claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_a_claimed_length_is_not_believed(claim: bytes) -> None:
    for function in (get, anything, near):
        with pytest.raises(InvalidArgument):
            codec(function).decode_msgpack(claim)
        with pytest.raises(InvalidArgument):
            codec(function).decode_msgpack(b"\x91" + claim)


def test_arguments_are_described_by_the_message_even_without_a_method_to_blame() -> None:
    with pytest.raises(InvalidArgument, match="get"):
        codec(get).decode_json("nonsense")
    with pytest.raises(InvalidArgument):
        codec(get).decode_json("\ud800")
    assert encode_json([1]) == "[1]"


@pytest.mark.parametrize("depth", [65, 300, 500, *range(900, 1_000), 3_000])
def test_no_depth_of_nesting_is_anything_but_an_invalid_argument(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    with pytest.raises(InvalidArgument):
        codec(anything).decode_json(f"[{nested}]")
    with pytest.raises(InvalidArgument):
        codec(anything).decode_msgpack(b"\x91" * depth + b"\x90")


def test_what_is_nested_too_deeply_to_be_sent_names_its_parameter() -> None:
    deep: Any = None
    for _ in range(900):
        deep = (deep,)
    with pytest.raises(InvalidArgument):
        codec(anything).encode((deep, None))


@pytest.mark.parametrize("value", [Decimal(1), [Decimal(1)], {"a": (Decimal(1),)}])
def test_what_needs_a_type_hint_is_refused_with_what_to_write(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"anything: value: .* as Decimal or list\[Decimal\]") as caught:
        codec(anything).canonical((value, None))
    assert caught.value.field == "value"


def test_what_contains_itself_is_refused_as_that() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument, match=r"items: .*contains itself"):
        codec(listed).canonical((loop,))
