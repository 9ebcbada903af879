"""Traits of a type hint's values as keys: how they are told apart, and whether they can be changed."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import types
import typing
import uuid
from decimal import Decimal
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from fusion_cluster.wire import hooks
from fusion_cluster.wire.scalars import EXACT_SCALARS
from fusion_cluster.wire.spelling import plain_hint, substituted

_SCALARS: Final = frozenset(
    {int, bool, str, bytes, types.NoneType, uuid.UUID, datetime.date, datetime.datetime, datetime.timedelta}
    | {float, Decimal}
)
_NUMBERS: Final = (int, float, Decimal)


def is_told_apart_by_python(hint: Any) -> bool:
    """Tell whether two values of one class that Python calls equal are the same argument, apart from NaN.

    They are not where numbers of several kinds meet (`1 == True`), in records that say themselves what they are equal
    to, in lists and dictionaries (no hash), for times with an offset (two that are equal are not the same time of day).
    """
    return _is_told_apart(hint, frozenset())


def _is_told_apart(hint: Any, within: frozenset[Any]) -> bool:
    """Tell the same inside of the records `within`, which may contain each other."""
    hint = plain_hint(hint)
    if isinstance(hint, type) and (hint in _SCALARS or issubclass(hint, enum.Enum)):
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        members = [plain_hint(member) for member in arguments]
        return len(_number_kinds(members)) < 2 and all(_is_told_apart(member, within) for member in members)
    if origin is typing.Literal:
        return len(_number_kinds([type(value) for value in arguments])) < 2
    if origin in (tuple, frozenset):
        return all(_is_told_apart(item, within) for item in arguments if item is not Ellipsis)
    fields = _compared_fields(origin or hint, arguments)
    if fields is None or hint in within:
        return fields is not None
    return all(_is_told_apart(field, within | {hint}) for field in fields)


def may_hold_nan(hint: Any) -> bool:
    """Tell whether something in a value may be NaN, which is not equal to itself."""
    return _may_hold_nan(hint, frozenset(), is_inside=False)


def _may_hold_nan(hint: Any, within: frozenset[Any], *, is_inside: bool = True) -> bool:
    hint = plain_hint(hint)
    if hint in (float, Decimal):
        return is_inside
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_may_hold_nan(member, within, is_inside=is_inside) for member in arguments)
    if origin in (tuple, frozenset):
        return any(_may_hold_nan(item, within) for item in arguments if item is not Ellipsis)
    fields = _compared_fields(origin or hint, arguments)
    if fields is None or hint in within:
        return False
    return any(_may_hold_nan(field, within | {hint}) for field in fields)


def _compared_fields(kind: Any, arguments: tuple[Any, ...]) -> list[Any] | None:
    """Return the types of a record's fields if its records are frozen and compared by all fields; else None."""
    if not isinstance(kind, type):
        return None
    if issubclass(kind, msgspec.Struct):
        config = kind.__struct_config__
        is_plain = config.eq and config.frozen and kind.__eq__ is msgspec.Struct.__eq__
        is_plain = is_plain and kind.__hash__ is msgspec.Struct.__hash__
    elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
        is_plain = kind.__eq__ is tuple.__eq__ and kind.__hash__ is tuple.__hash__
    elif dataclasses.is_dataclass(kind):
        is_plain = (
            kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
            and all(field.compare and field.hash in (None, True) for field in dataclasses.fields(kind))
            and _is_generated(kind.__eq__)
            and _is_generated(kind.__hash__)
        )
    else:
        return None
    return _field_types(kind, arguments) if is_plain else None


def _is_generated(method: Any) -> bool:
    """Tell whether `dataclasses` has made a method."""
    return getattr(getattr(method, "__code__", None), "co_filename", "") == "<string>"


def _field_types(kind: type, arguments: tuple[Any, ...]) -> list[Any]:
    variables = dict(zip(getattr(kind, "__parameters__", ()), arguments, strict=False))
    return [substituted(field, variables) for field in typing.get_type_hints(kind).values()]


def _number_kinds(hints: list[Any]) -> set[Any]:
    kinds: set[Any] = set()
    for hint in hints:
        if get_origin(hint) is typing.Literal:
            kinds |= _number_kinds([type(value) for value in get_args(hint)])
        elif isinstance(hint, type) and issubclass(hint, _NUMBERS):
            kinds.add(hint)
    return kinds


def is_changeable(hint: Any) -> bool:
    """Tell whether code may change a value of the hint: a list, an ordinary dataclass, a value of unknown type."""
    return _is_changeable(hint, frozenset())


def _is_changeable(hint: Any, within: frozenset[Any]) -> bool:
    hint = plain_hint(hint)
    origin: Any = get_origin(hint)
    arguments = get_args(hint)
    kind: Any = origin or hint
    if kind in (Union, types.UnionType, tuple, frozenset) and arguments:
        return any(_is_changeable(argument, within) for argument in arguments if argument is not Ellipsis)
    if kind is typing.Literal or hint == tuple[()]:
        return False
    return _is_changeable_class(hint, kind, arguments, within)


def _is_changeable_class(hint: Any, kind: Any, arguments: tuple[Any, ...], within: frozenset[Any]) -> bool:
    if not isinstance(kind, type):
        return True
    if kind in EXACT_SCALARS:
        return kind in (bytearray, memoryview)
    if issubclass(kind, enum.Enum | str | bytes | int | float):
        return False
    if hint in within:
        return False
    fields = _frozen_fields(kind, arguments)
    return fields is None or any(_is_changeable(field, within | {hint}) for field in fields)


def _frozen_fields(kind: type, arguments: tuple[Any, ...]) -> list[Any] | None:
    """Return the types of a record's fields; None if they can be assigned anew, or it is not a record."""
    if hooks.is_pydantic_model(kind):
        model: Any = kind
        is_frozen = model.model_config.get("frozen") and model.model_config.get("extra") != "allow"
        return [field.annotation for field in model.model_fields.values()] if is_frozen else None
    if issubclass(kind, msgspec.Struct):
        is_frozen = kind.__struct_config__.frozen
    elif dataclasses.is_dataclass(kind):
        is_frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    else:
        is_frozen = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return _field_types(kind, arguments) if is_frozen else None
