"""One spelling for arguments that are equal.

Python finds `Decimal("1.0") == Decimal("1.00")` and `(1, 2) == (1.0, 2.0)`: one key of the graph. Their bytes choose
the slot and name the key to other processes, so they must be equal too. A canonicalizer turns a value into the one
spelling of all values equal to it, as far as the parameter's type allows them; where equal values have equal bytes
anyway there is none (None), and encoding costs nothing extra.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import types
import typing
import uuid
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from fusion_cluster.wire import hooks

Canonicalizer = Callable[[Any], Any]

_EXACT = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])
_MAX_PLAIN_DIGITS = 28
_ONE = Decimal(1)
_ENCODER = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack)
_SPELLED_ONE_WAY = (str, bytes, uuid.UUID, datetime.datetime, datetime.date, datetime.timedelta, types.NoneType)


def canonicalizer(hint: Any, *, is_field: bool = False) -> Canonicalizer | None:
    """What gives values of this type their one spelling; None when they have it.

    Args:
        hint: the type of the values.
        is_field: it is the type of a record's field: `Signature.bind` has converted the numbers of all others.
    """
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if hint in _SPELLED_ONE_WAY or hint is None:
        return None
    if hint in _NUMBERS:
        return _NUMBERS[hint] if is_field else None
    if hint is Decimal:
        return _decimal
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return canonicalizer(arguments[0], is_field=is_field)
    if origin is typing.Literal or (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        return None
    if origin in (Union, types.UnionType):
        return _union(arguments, is_field)
    if origin is tuple and arguments:
        return _tuple(arguments, is_field)
    if origin in (frozenset, set, typing.AbstractSet) and arguments:
        return functools.partial(_set, canonicalizer(arguments[0], is_field=is_field))
    return canonical


def _union(members: tuple[Any, ...], is_field: bool) -> Canonicalizer | None:
    """Optional[X] is X with None let through; any other union is canonicalized by the value's own class."""
    others = [member for member in members if member is not types.NoneType]
    if len(others) > 1:
        return canonical
    one = canonicalizer(others[0], is_field=is_field)
    if one is None:
        return None
    return lambda value: None if value is None else one(value)


def _tuple(members: tuple[Any, ...], is_field: bool) -> Canonicalizer | None:
    if len(members) == 2 and members[1] is Ellipsis:
        each = canonicalizer(members[0], is_field=is_field)
        return None if each is None else lambda value: tuple([each(item) for item in value])
    own = [canonicalizer(member, is_field=is_field) for member in members]
    if not any(own):
        return None
    return lambda value: tuple([item if one is None else one(item) for one, item in zip(own, value, strict=True)])


def canonical(value: Any) -> Any:
    """The one spelling of a value whose type is not known beforehand; numbers of different types stay different."""
    if value is None or isinstance(value, str | bytes | bool | int | enum.Enum | datetime.date | uuid.UUID):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, set | frozenset):
        return _set(canonical, value)
    if isinstance(value, dict):
        return _dict(value)
    if hooks.is_pydantic_model(type(value)):
        return canonical(value.model_dump(mode="python", round_trip=True))
    record = cast(Hashable, type(value))
    fields = _fields(record)
    if fields is not None:
        return {encoded: one(getattr(value, name)) for name, encoded, one in fields}
    return value


@functools.lru_cache(maxsize=1024)
def _fields(record: type[Any]) -> tuple[tuple[str, str, Canonicalizer], ...] | None:
    """Of a record class: each field's name, its name when encoded, and its canonicalizer."""
    if dataclasses.is_dataclass(record):
        names = [(field.name, field.name) for field in dataclasses.fields(record)]
    elif (
        issubclass(record, msgspec.Struct)
        and not record.__struct_config__.array_like
        and record.__struct_config__.tag is None
    ):
        names = [(field.name, field.encode_name) for field in msgspec.structs.fields(record)]
    else:
        return None
    try:
        hints = typing.get_type_hints(record)
    except (NameError, TypeError):
        hints = {}
    return tuple(
        (name, encoded, canonicalizer(hints.get(name, Any), is_field=True) or _same) for name, encoded in names
    )


def _same(value: Any) -> Any:
    return value


# What is not of the parameter's type is left as it is: decoding at the other end will say so.
def _bool(value: Any) -> Any:
    return bool(value) if isinstance(value, int) and 0 <= value <= 1 else value


def _int(value: Any) -> Any:
    return int(value) if isinstance(value, int) else value


def _float(value: Any) -> Any:
    return float(value) + 0.0 if isinstance(value, int | float) else value  # -0.0 is 0.0


def _decimal(value: Any) -> Any:
    if not isinstance(value, Decimal) or not value.is_finite():
        return value
    if not value:
        return Decimal(0)
    shortest = value.normalize(_EXACT)
    # 100, not 1E+2: the body of the method sees the canonical value.
    if value.adjusted() < _MAX_PLAIN_DIGITS and shortest == shortest.to_integral_value():
        return shortest.quantize(_ONE, context=_EXACT)
    return shortest


def _set(each: Canonicalizer | None, value: Any) -> list[Any]:
    items = list(value) if each is None else [each(item) for item in value]
    return sorted(items, key=_encoded)


def _dict(value: dict[Any, Any]) -> dict[Any, Any]:
    items = [(canonical(key), canonical(item)) for key, item in value.items()]
    return {_key(key): item for key, item in sorted(items, key=lambda item: _encoded(item[0]))}


def _key(value: Any) -> Any:
    """A key of a dictionary, which has no lists in it; their bytes are those of tuples."""
    return tuple(map(_key, value)) if isinstance(value, list) else value


def _encoded(value: Any) -> bytes:
    return _ENCODER.encode(value)


_NUMBERS: dict[Any, Canonicalizer] = {bool: _bool, int: _int, float: _float}
