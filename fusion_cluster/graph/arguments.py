"""What makes two arguments the same: canonical values, and keys that tell 1, 1.0 and True apart where the types do.

Python says `1 == 1.0 == True`. A parameter's type hint decides what we say:

- a hint with one kind of number (`int`, `float | None`, `tuple[float, ...]`) converts: `1` for a `float` parameter
  *is* `1.0`. Equal values are then the same value, and Python's own equality of the raw arguments is right;
- a hint that admits several kinds (`Any`, `object`, `int | float`, none at all) keeps them apart: the canonical
  arguments are a `TypedArguments`, a tuple that compares numbers by kind as well.

Invariant: of two equal canonical argument tuples each can stand for the other in a call.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import math
import numbers
import types
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union, get_args, get_origin

import msgspec

type_alias_type: Final = getattr(__import__("typing"), "TypeAliasType", None)
"""Class of Python 3.12's `type X = ...`, None before."""

Canonicaliser = Callable[[Any], Any]
"""Converts a value to the one kind of number (or text) that its hint allows; leaves what it does not know."""


# -- kinds of numbers ------------------------------------------------------------------------------------------------
def _to_int(value: Any) -> Any:
    if type(value) is int or not isinstance(value, numbers.Number):
        return value
    try:
        whole: Any = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return value
    return whole if whole == value else value


def _to_float(value: Any) -> Any:
    if type(value) is not float:
        if not isinstance(value, numbers.Number) or isinstance(value, complex):
            return value
        try:
            value = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return value
    if value != value:
        return math.nan  # NaN equals only itself, so there must be one of it
    return value if value else 0.0  # -0.0 equals 0.0, so it must be 0.0


def _to_bool(value: Any) -> Any:
    if type(value) is bool or not isinstance(value, numbers.Number):
        return value
    number: Any = value
    return bool(number) if number in (0, 1) else number


def _to_complex(value: Any) -> Any:
    if type(value) is complex or not isinstance(value, numbers.Number):
        return value
    try:
        return complex(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return value


def _to_decimal(value: Any) -> Any:
    return decimal.Decimal(value) if isinstance(value, int) else value


def _to_fraction(value: Any) -> Any:
    return fractions.Fraction(value) if isinstance(value, int) else value


_NUMBERS: Final[dict[type, Canonicaliser]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    complex: _to_complex,
    decimal.Decimal: _to_decimal,
    fractions.Fraction: _to_fraction,
}


def _to_str(value: Any) -> Any:
    return str.__str__(value) if isinstance(value, str) and type(value) is not str else value


def _to_bytes(value: Any) -> Any:
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) and type(value) is not bytes else value


_TEXTS: Final[dict[type, Canonicaliser]] = {str: _to_str, bytes: _to_bytes}


# -- what a type hint says -------------------------------------------------------------------------------------------
class Domain:
    """What a type hint says about the values of a parameter.

    Attributes:
        kinds: the kinds of number that a value may be.
        is_ambiguous: values that Python calls equal may have to be kept apart.
        canonicalise: conversion of a value, or None when every value is left as it is.
    """

    __slots__ = ("canonicalise", "is_ambiguous", "kinds")

    def __init__(
        self,
        kinds: frozenset[type] = frozenset(),
        *,
        is_ambiguous: bool = False,
        canonicalise: Canonicaliser | None = None,
    ) -> None:
        self.kinds = kinds
        self.is_ambiguous = is_ambiguous
        self.canonicalise = canonicalise


_UNKNOWN: Final = Domain(is_ambiguous=True)
_PLAIN: Final = Domain()


def domain(hint: Any) -> Domain:
    """Return what `hint` (a resolved type hint) says about the values of a parameter."""
    if hint is Any:  # a class since Python 3.11
        return _UNKNOWN
    if hint is None or hint is type(None):
        return _PLAIN
    if isinstance(hint, NewType):
        return domain(hint.__supertype__)
    if type_alias_type is not None and isinstance(hint, type_alias_type):
        return domain(hint.__value__)
    if isinstance(hint, TypeVar):
        members = hint.__constraints__ or ((hint.__bound__,) if hint.__bound__ is not None else ())
        return _union([domain(member) for member in members]) if members else _UNKNOWN
    origin = get_origin(hint)
    if origin is Annotated:
        return domain(get_args(hint)[0])
    if origin is Union or origin is types.UnionType:
        return _union([domain(member) for member in get_args(hint)])
    if origin is Literal:
        return _union([domain(type(value)) for value in get_args(hint)])
    if origin is tuple:
        return _tuple(get_args(hint))
    if origin is frozenset:
        return _collection(frozenset, domain(get_args(hint)[0]))
    if isinstance(origin, type):
        return _class(origin)
    return _class(hint) if isinstance(hint, type) else _UNKNOWN


def _class(hint: type) -> Domain:
    if hint in _NUMBERS:
        return Domain(frozenset({hint}), canonicalise=_NUMBERS[hint])
    if hint in _TEXTS:
        return Domain(canonicalise=_TEXTS[hint])
    if issubclass(hint, enum.Enum):
        return Domain(frozenset({hint})) if issubclass(hint, numbers.Number) else _PLAIN
    if hint in (tuple, frozenset):
        return _UNKNOWN
    try:
        admits_numbers = any(issubclass(number, hint) for number in _NUMBERS)
    except TypeError:  # a protocol that cannot be asked
        return _UNKNOWN
    return _UNKNOWN if admits_numbers else _PLAIN


def _union(members: list[Domain]) -> Domain:
    kinds = frozenset[type]().union(*(member.kinds for member in members))
    if len(kinds) > 1 or any(member.is_ambiguous for member in members):
        return _UNKNOWN
    steps = [member.canonicalise for member in members if member.canonicalise is not None]
    return Domain(kinds, canonicalise=_chain(steps))


def _chain(steps: list[Canonicaliser]) -> Canonicaliser | None:
    if len(steps) < 2:
        return steps[0] if steps else None
    return lambda value: functools.reduce(lambda current, step: step(current), steps, value)


def _tuple(items: tuple[Any, ...]) -> Domain:
    if len(items) == 2 and items[1] is Ellipsis:
        return _collection(tuple, domain(items[0]))
    domains = [domain(item) for item in items]
    if any(item.is_ambiguous for item in domains):
        return _UNKNOWN
    steps = [item.canonicalise or _same for item in domains]
    if all(step is _same for step in steps):
        return _PLAIN

    def canonicalise(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(steps):
            return value
        return tuple(step(item) for step, item in zip(steps, value, strict=True))

    return Domain(canonicalise=canonicalise)


def _collection(kind: type[tuple[Any, ...]] | type[frozenset[Any]], item: Domain) -> Domain:
    if item.is_ambiguous:
        return _UNKNOWN
    step = item.canonicalise
    if step is None:
        return _PLAIN
    return Domain(canonicalise=lambda value: kind(map(step, value)) if type(value) is kind else value)


def _same(value: Any) -> Any:
    return value


# -- keys that tell numbers apart ------------------------------------------------------------------------------------
class TypedArguments(tuple[Any, ...]):
    """Arguments among which 1, 1.0 and True differ, at any depth of tuples and frozensets.

    The hash is that of a tuple, so a plain tuple looked up in a dict of these is compared by kind as well.
    """

    __slots__ = ()

    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, tuple) and _kinded(tuple(self)) == _kinded(tuple(other)))

    def __ne__(self, other: object) -> bool:
        return not self == other


def _kinded(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_kinded, value))
    if type(value) is frozenset:
        return frozenset(map(_kinded, value))
    if isinstance(value, numbers.Number):
        return next((kind for kind in _NUMBERS if isinstance(value, kind)), type(value)), value
    return value


def canonicalise_unknown(value: Any) -> Any:
    """Canonical form of a value whose hint says nothing: only NaN and -0.0 change."""
    return _to_float(value) if type(value) is float else value


# -- what can travel -------------------------------------------------------------------------------------------------
_SCALARS: Final = frozenset(
    {bool, float, bytes, type(None), decimal.Decimal, uuid.UUID}
    | {datetime.datetime, datetime.date, datetime.time, datetime.timedelta}
)


def is_encodable(value: object) -> bool:
    """Tell whether `value` can be sent to another process as an argument."""
    if type(value) in _SCALARS or (type(value) is str and value.isascii()):
        return True
    if type(value) is int:
        return -(2**63) <= value < 2**64
    try:
        msgspec.msgpack.encode(value, enc_hook=_encode_foreign)
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError, msgspec.MsgspecError):
        return False
    return True


def _encode_foreign(value: object) -> None:
    """Accept, without looking inside, what `wire.codec` knows beyond msgspec: pydantic models and Arrow data."""
    kind = type(value)
    if not hasattr(kind, "__pydantic_serializer__") and kind.__module__.partition(".")[0] != "pyarrow":
        raise NotImplementedError(kind.__name__)
