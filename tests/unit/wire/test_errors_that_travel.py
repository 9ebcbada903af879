"""A.25: what is left of an error in another process: its class, members, notes and traceback, within bounds."""

from __future__ import annotations

import contextlib
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_cluster import errors
from fusion_cluster.errors import RemoteError
from fusion_cluster.failures.exact_copies import exact_copy
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.error_classes import class_name, known_class
from fusion_cluster.wire.errors import MAX_CHARS, RemoteTraceback, decode_error, encode_error
from fusion_cluster.wire.tagged import NotPlainError, decode_tagged, encode_tagged
from tests.faults.odd_errors import EXCEPTIONS, EXITS, Failures, Frozen, Required, Slotted, state_of

KEPT = (
    *("frozen", "frozen slots", "slots", "without __dict__", "immovable", "refusing __init__", "changing __init__"),
    *("required arguments", "unspeakable", "own group", "json"),
)
"""Kinds whose class travels."""
PLAIN = ("group", "with a note", "os error", "time-out", "unicode")
"""Kinds of Python's own."""


def travelled(error: BaseException, *, for_member: bool = True, hops: int = 1) -> Exception:
    for _ in range(hops):
        encoded = encode_error(error, for_member=for_member).SerializeToString()
        error = decode_error(session_pb2.Error.FromString(encoded))
    assert isinstance(error, Exception)
    return error


def notes_of(error: BaseException) -> list[str]:
    notes: list[str] = BaseException.__dict__["__dict__"].__get__(error).get("__notes__", [])
    return notes


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize("kind", KEPT)
def test_between_members_an_error_of_a_known_class_is_one_of_that_class(kind: str, hops: int) -> None:
    error = EXCEPTIONS[kind]()
    there = travelled(error, hops=hops)
    assert isinstance(there, type(error))
    assert isinstance(there, RemoteError)
    assert there.error_type == type(error).__name__ == type(there).__name__
    (_, arguments, attributes, slots, members), (_, *others) = state_of(error), state_of(there)
    assert others[0] == arguments
    assert attributes.items() <= others[1].items()
    assert (others[2], len(others[3])) == (slots, len(members))


@pytest.mark.parametrize("kind", PLAIN)
def test_errors_of_python_itself_are_what_they_were(kind: str) -> None:
    error = EXCEPTIONS[kind]()
    there = travelled(error)
    assert type(there) is type(error)
    assert str(there) == str(error)
    if kind != "group":
        kind_there, *_ = state_of(there)
        assert (kind_there, there.args) == (type(error), error.args)


@pytest.mark.parametrize("kind", [*EXCEPTIONS, *EXITS])
@pytest.mark.parametrize("for_member", [True, False])
def test_whatever_it_is_it_travels(kind: str, for_member: bool) -> None:
    error: BaseException = {**EXCEPTIONS, **EXITS}[kind]()
    there = travelled(error, for_member=for_member)
    assert type(there).__name__ in (type(error).__name__, "RemoteError", "ExceptionGroup", "BodyExited")
    assert exact_copy(there) is not None


def test_a_client_is_told_of_no_class_and_no_traceback() -> None:
    try:
        raise Required("secret", shelf=3)
    except Required as error:
        error.add_note("ask again")
        error.add_note(RemoteTraceback("in another process:\n  File ..."))
        encoded = encode_error(error)
    assert (encoded.class_name, encoded.state, encoded.traceback) == ("", b"", "")
    assert list(encoded.notes) == ["ask again"]
    assert type(decode_error(encoded)) is RemoteError


def test_a_member_is_told_where_it_was_raised_also_beyond_the_next() -> None:
    def get_price() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Required("nut", shelf=3) from error

    try:
        get_price()
    except Required as error:
        error.add_note("ask again")
        there = travelled(error, hops=2)
    own, note = notes_of(there)
    assert own == "ask again"
    assert isinstance(note, RemoteTraceback)
    for word in ("get_price", "KeyError: 'first'", "direct cause"):
        assert word in note
    assert "get_price" in "".join(traceback.format_exception(there))
    assert travelled(errors.Overloaded("full")).__traceback__ is None
    assert not notes_of(travelled(errors.Overloaded("full"))), "what the library itself tells is no surprise"


def test_groups_keep_their_members_nested_ones_too() -> None:
    group = ExceptionGroup("two", [Frozen(1), Failures("own", [KeyError("k"), Slotted(2)]), errors.Overloaded("full")])
    for for_member in (True, False):
        there = travelled(group, for_member=for_member, hops=2)
        assert isinstance(there, ExceptionGroup)
        frozen, inner, full = there.exceptions
        assert there.message == "two"
        assert type(full) is errors.Overloaded
        assert isinstance(inner, ExceptionGroup)
        assert isinstance(inner.exceptions[0], KeyError)
        assert isinstance(frozen, Frozen) == isinstance(inner, Failures) == for_member
    caught: list[str] = []
    try:
        raise travelled(group)
    except* Frozen as frozen_ones:
        caught += [str(type(error).__name__) for error in frozen_ones.exceptions]
    except* Exception:
        caught.append("the rest")
    assert caught == ["Frozen", "the rest"]


def _nested(depth: int) -> Exception:
    error: Exception = ValueError("deep")
    for _ in range(depth):
        error = ExceptionGroup("in", [error])
    return error


class Chatty(Exception):
    def __str__(self) -> str:
        return "x" * 10_000_000


def _with_notes() -> Exception:
    error = ValueError("x")
    for _ in range(1_000):
        error.add_note("n" * 100_000)
    return error


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("x" * 10_000_000),
        lambda: Chatty(1, 2),
        lambda: Required("x" * 10_000_000, shelf=1),
        lambda: ExceptionGroup("x" * 10_000, [ValueError("y" * 10_000) for _ in range(10_000)]),
        lambda: _nested(200),
        lambda: ExceptionGroup("a", [ExceptionGroup("b", [_nested(20)] * 50)] * 50),
        _with_notes,
    ],
)
def test_a_hostile_error_is_bounded(make: Callable[[], Exception]) -> None:
    error = make()
    try:
        raise error
    except Exception as raised:
        for for_member in (True, False):
            encoded = encode_error(raised, for_member=for_member)
            assert len(encoded.SerializeToString()) < 2 * MAX_CHARS
            assert exact_copy(decode_error(encoded)) is not None


def test_what_was_left_out_of_a_group_is_told() -> None:
    there = travelled(ExceptionGroup("many", [ValueError(str(number)) for number in range(10_000)]))
    assert isinstance(there, ExceptionGroup)
    assert len(there.exceptions) == 100
    assert notes_of(there)[0] == "9,900 more exceptions were left out on the way"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "os:system",
        "os:path",
        "builtins:SystemExit",
        "builtins:StopIteration",
        "no_such_module:Error",
        "tests.faults.odd_errors:Odd",
        "tests.faults.odd_errors:EXCEPTIONS",
        "tests.faults.odd_errors:Frozen.code",
        "json:decoder",
    ],
)
def test_only_classes_of_exceptions_are_looked_up_and_nothing_is_imported(name: str) -> None:
    assert known_class(name) is None
    encoded = session_pb2.Error(type="X", message="m", class_name=name, state=encode_tagged(((), {}, {})))
    assert type(decode_error(encoded)) is RemoteError


@pytest.mark.parametrize("state", [b"", b"\xc1", encode_tagged(3), encode_tagged((1, 2, 3)), encode_tagged(((), {}))])
def test_a_state_that_makes_no_sense_makes_a_remote_error(state: bytes) -> None:
    name = class_name(Required)
    assert name == "tests.faults.odd_errors:Required"
    assert type(decode_error(session_pb2.Error(type="Required", class_name=name, state=state))) is RemoteError


PLAIN_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes(timezones=st.just(UTC) | st.none())
    | st.dates(),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.frozensets(st.integers() | st.text(st.characters(codec="utf-8")), max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")) | st.tuples(st.integers()), parts, max_size=3)
    ),
    max_leaves=8,
)


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return dict, [(_typed(key), _typed(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [_typed(part) for part in value]
    return type(value), value


@settings(max_examples=60, deadline=None)
@given(PLAIN_VALUES)
def test_plain_values_come_back_as_the_type_they_were(value: Any) -> None:
    try:
        encoded = encode_tagged(value)
    except NotPlainError:
        return
    assert _typed(decode_tagged(encoded)) == _typed(value)


@pytest.mark.parametrize(
    "value",
    [date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.20"), uuid.UUID(int=3), 2**70, {1: {2: (3, [4])}}],
)
def test_each_of_these_travels(value: Any) -> None:
    assert decode_tagged(encode_tagged(value)) == value


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40))
def test_bytes_from_anywhere_are_read_or_refused(encoded: bytes) -> None:
    with contextlib.suppress(NotPlainError):
        decode_tagged(encoded)


@settings(max_examples=40, deadline=None)
@given(
    frozen=st.booleans(),
    slots=st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
    base=st.sampled_from([Exception, ValueError, OSError, KeyError, errors.UsageError, LookupError]),
    values=st.lists(st.integers() | st.text(st.characters(codec="utf-8"), max_size=5), max_size=4),
)
def test_classes_of_any_shape_are_copied_exactly(frozen: bool, slots: list[str], base: Any, values: list[Any]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AttributeError("frozen")

    namespace: dict[str, Any] = {"__slots__": slots} if slots else {}
    if frozen:
        namespace |= {"__setattr__": refuse, "__init__": lambda self, *_: None, "__reduce__": refuse}
    made: Any = type("Made", (base,), namespace)
    error = made(*values) if frozen or base is not errors.UsageError else made(*values[:1])
    for name, value in zip(slots, values, strict=False):
        vars(made)[name].__set__(error, value)
    copy = exact_copy(error)
    assert copy is not None
    assert copy is not error
    assert type(copy) is made
    assert state_of(copy) == state_of(error)
    for name in slots:
        assert getattr(copy, name, None) == getattr(error, name, None)
