from __future__ import annotations

import contextlib
import datetime
import math
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from fusion_cluster.errors import InvalidArgument, UsageError
from fusion_cluster.wire.codec import encode_json, encode_msgpack, value_codec
from tests.unit.wire.wire_signatures import signature_of

INTEGERS = st.integers(-(2**63), 2**64 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@dataclass(frozen=True)
class Inner:
    amount: Decimal
    ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Outer:
    name: str
    weight: float
    inner: Inner | None = None
    pairs: tuple[tuple[int, float], ...] = ()


DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
INNERS = st.builds(Inner, DECIMALS, st.frozensets(INTEGERS, max_size=4))
OUTERS = st.builds(
    Outer,
    st.text(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | INNERS,
    st.lists(st.tuples(INTEGERS, st.floats(allow_nan=False, allow_infinity=False)), max_size=3).map(tuple),
)
ZONES: st.SearchStrategy[datetime.timezone] = st.integers(-23, 23).map(
    lambda hours: datetime.timezone(datetime.timedelta(hours=hours))
)
# Where the encodings have a range for instants, years 1 and 9999 fall out of it in other zones.
INSTANTS = st.datetimes(
    datetime.datetime(2, 1, 2), datetime.datetime(9998, 1, 1), timezones=st.one_of(st.none(), ZONES)
)


@given(PLAIN)
def test_plain_values_come_back_from_msgpack_and_json(value: Any) -> None:
    codec = value_codec(Any)
    assert codec.decode_msgpack(encode_msgpack(value)) == value
    decoded = codec.decode_json(encode_json(value))
    assert decoded == value


@pytest.mark.parametrize(
    ("hint", "values"),
    [
        (Outer, OUTERS),
        (list[Outer | Inner], st.lists(OUTERS | INNERS, max_size=3)),
        (datetime.datetime, INSTANTS),
        (Decimal, DECIMALS),
        (dict[uuid.UUID, set[int]], st.dictionaries(st.uuids(), st.sets(INTEGERS))),
        (datetime.timedelta, st.timedeltas(datetime.timedelta(days=-(10**5)), datetime.timedelta(days=10**5))),
    ],
    ids=str,
)
def test_typed_values_come_back_from_msgpack_and_json(hint: Any, values: st.SearchStrategy[Any]) -> None:
    codec = value_codec(hint)

    @given(values)
    def comes_back(value: Any) -> None:
        assert codec.decode_msgpack(encode_msgpack(value)) == value
        assert codec.decode_json(encode_json(value)) == value

    comes_back()


async def method(
    self: object, outer: Outer, number: float, amount: Decimal | None, at: datetime.datetime, free: Any = None
) -> None: ...


SIGNATURE = signature_of(method)
CODEC = SIGNATURE.codec
FREE = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.tuples(OUTERS, st.floats(allow_nan=False), st.none() | DECIMALS, INSTANTS, st.none())


@given(ARGUMENTS)
def test_arguments_come_back(arguments: tuple[Any, ...]) -> None:
    assert tuple(CODEC.decode_msgpack(CODEC.encode(SIGNATURE.bind(arguments, {})))) == arguments


@given(ARGUMENTS)
def test_the_bytes_of_decoded_arguments_are_the_bytes_they_came_from(arguments: tuple[Any, ...]) -> None:
    encoded = CODEC.encode(SIGNATURE.bind(arguments, {}))
    assert CODEC.encode(CODEC.decode_msgpack(encoded)) == encoded


def respelled(value: Any, draw: Any) -> Any:
    """An equal value, spelled otherwise."""
    if isinstance(value, Decimal):
        zeros = draw(st.integers(0, 3))
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        return Decimal((sign, digits + (0,) * zeros, exponent - zeros))
    if isinstance(value, float) and value == 0:
        return draw(st.sampled_from([0.0, -0.0]))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return draw(st.sampled_from([value, int(value)]))
    if isinstance(value, tuple):
        return tuple(respelled(item, draw) for item in value)
    if isinstance(value, frozenset):
        return frozenset(draw(st.permutations([respelled(item, draw) for item in value])))
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(draw(ZONES))
    if isinstance(value, Outer):
        return Outer(
            value.name, respelled(value.weight, draw), respelled(value.inner, draw), respelled(value.pairs, draw)
        )
    if isinstance(value, Inner):
        return Inner(respelled(value.amount, draw), respelled(value.ids, draw))
    return value


@given(ARGUMENTS, FREE, st.data())
@settings(max_examples=300, deadline=None)
def test_equal_arguments_have_equal_bytes_however_spelled(arguments: Any, free: Any, data: st.DataObject) -> None:
    one = (*arguments[:4], free)
    other = tuple(respelled(value, data.draw) for value in one)
    assert one == other
    assert CODEC.encode(SIGNATURE.bind(one, {})) == CODEC.encode(SIGNATURE.bind(other, {}))


@given(ARGUMENTS, ARGUMENTS)
def test_different_arguments_have_different_bytes(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    one, other = SIGNATURE.bind(one, {}), SIGNATURE.bind(other, {})
    assert (one == other) == (CODEC.encode(one) == CODEC.encode(other))


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_arbitrary_bytes_are_arguments_or_refused(encoded: bytes) -> None:
    for decode in (CODEC.decode_msgpack, CODEC.decode_json):
        try:
            arguments = decode(encoded)
        except InvalidArgument:
            continue
        hash(arguments)


@given(st.lists(PLAIN, max_size=6))
@settings(max_examples=300, deadline=None)
def test_arbitrary_values_are_arguments_or_refused(values: list[Any]) -> None:
    for decode, encoded in (
        (CODEC.decode_msgpack, msgspec.msgpack.encode(values)),
        (CODEC.decode_json, msgspec.json.encode(values)),
    ):
        with contextlib.suppress(InvalidArgument):
            decode(encoded)
    with contextlib.suppress(InvalidArgument):
        CODEC.from_builtins(values)


@given(st.binary(max_size=100), st.sampled_from([int, Outer, Any, list[Outer | Inner], dict[str, Decimal]]))
def test_arbitrary_bytes_are_values_or_refused(encoded: bytes, hint: Any) -> None:
    codec = value_codec(hint)
    for decode in (codec.decode_msgpack, codec.decode_json):
        with contextlib.suppress(UsageError):
            decode(encoded)


@given(st.floats())
def test_floats_survive_msgpack_whatever_they_are(value: float) -> None:
    decoded = value_codec(float).decode_msgpack(encode_msgpack(value))
    assert decoded == value or (math.isnan(decoded) and math.isnan(value))
