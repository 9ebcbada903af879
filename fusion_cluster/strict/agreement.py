"""Checks that the value a method returned matches its annotation.

The codec alone does not check that: it turns a tuple into a list, a dictionary into a record, a text into a `Decimal`.
So the returned value is compared with the value that arrives in another process. Equal values match. Unequal values
match only where the annotation leaves the type open (`Sequence`, `Any`), or where `==` cannot decide (NaN, arrays,
classes without `__eq__`).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.values import encode_msgpack


def says_nothing(hint: Any) -> bool:
    """Return whether a type hint allows every value."""
    return hint is Any or hint is object or isinstance(hint, typing.TypeVar)


def disagreement(hint: Any, arrived: Any, came: Any, place: str = "") -> str:
    """Describe where a value does not match its annotation; "" if it matches.

    Args:
        hint: the annotation.
        arrived: the value that another process gets.
        came: the value that the method returned.
        place: the place of the value in the whole result: `[2].price`.
    """
    if _is_equal(arrived, came):
        return ""
    hint = _bare(hint)
    if isinstance(came, (list, tuple)) and isinstance(arrived, (list, tuple)):
        if type(came) is not type(arrived) and not _admits(hint, type(came)):
            return _wrong_class(hint, came, place)
        return _first(_in_items(hint, arrived, came, place))
    if isinstance(came, Mapping) and isinstance(arrived, Mapping):
        return _first(_in_mapping(hint, arrived, came, place))
    if type(came) is type(arrived):
        names = _field_names(type(came))
        if names:
            return _first(_in_fields(names, arrived, came, place))
        return "" if _is_same_encoded(arrived, came) else _lost(came, place)
    if says_nothing(hint):
        return ""
    return _wrong_class(hint, came, place)


# -- inside containers -------------------------------------------------------------------------------------------------
def _in_items(hint: Any, arrived: Any, came: Any, place: str) -> Iterator[str]:
    if len(arrived) != len(came):
        yield _lost(came, place)
        return
    for index, (theirs, ours) in enumerate(zip(arrived, came, strict=True)):
        yield disagreement(_item_hint(hint, came, index), theirs, ours, f"{place}[{index}]")


def _in_mapping(hint: Any, arrived: Mapping[Any, Any], came: Mapping[Any, Any], place: str) -> Iterator[str]:
    for key in came:
        if key not in arrived and isinstance(key, str):
            yield f"{place}[{key!r}] is not a part of {type_name(hint)}, and is lost on the way to another process"
    if len(arrived) != len(came):
        yield _lost(came, place)
        return
    of_key, of_value = _mapping_hints(hint, came)
    for (their_key, theirs), (our_key, ours) in zip(arrived.items(), came.items(), strict=True):
        yield disagreement(of_key, their_key, our_key, f"{place} (a key)")
        value_hint = of_value.get(our_key, Any) if isinstance(of_value, dict) else of_value
        yield disagreement(value_hint, theirs, ours, f"{place}[{our_key!r}]")


def _in_fields(names: list[str], arrived: Any, came: Any, place: str) -> Iterator[str]:
    try:
        hints = typing.get_type_hints(type(came), include_extras=True)
    except (NameError, TypeError):
        hints = {}
    for name in names:
        theirs, ours = getattr(arrived, name, None), getattr(came, name, None)
        yield disagreement(hints.get(name, Any), theirs, ours, f"{place}.{name}")


def _field_names(kind: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    return list(getattr(kind, "model_fields", ()))


# -- type hints --------------------------------------------------------------------------------------------------------
def _bare(hint: Any) -> Any:
    """Return the hint without `Annotated`, `NewType` and aliases."""
    while True:
        if isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif get_origin(hint) is typing.Annotated:
            hint = get_args(hint)[0]
        elif hasattr(hint, "__value__") and type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; for any other hint, the hint itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(_bare(member) for member in get_args(hint))
    return (hint,)


def _admits(hint: Any, kind: type) -> bool:
    """Return whether a value of the class `kind` can match the hint, judged by its class alone."""
    for member in _members(hint):
        origin = get_origin(member) or member
        if says_nothing(member) or (isinstance(origin, type) and _is_subclass(kind, origin)):
            return True
    return False


def _is_subclass(kind: type, of: type) -> bool:
    try:
        return issubclass(kind, of)
    except TypeError:  # a protocol that does not support `issubclass`
        return True


def _fitting(hint: Any, kind: type) -> Any:
    """Return the member of a union that a value of the class `kind` matches."""
    return next((member for member in _members(hint) if _admits(member, kind)), Any)


def _item_hint(hint: Any, came: Any, index: int) -> Any:
    member = _fitting(hint, type(came))
    arguments = get_args(member)
    if not arguments:
        return _named_tuple_hint(came, index)
    if get_origin(member) is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return arguments[index] if index < len(arguments) else Any
    return arguments[0]


def _named_tuple_hint(came: Any, index: int) -> Any:
    fields = getattr(came, "_fields", None)
    if not fields:
        return Any
    return typing.get_type_hints(type(came), include_extras=True).get(fields[index], Any)


def _mapping_hints(hint: Any, came: Any) -> tuple[Any, Any]:
    for member in _members(hint):
        if typing.is_typeddict(get_origin(member) or member):
            return str, typing.get_type_hints(get_origin(member) or member, include_extras=False)
    arguments = get_args(_fitting(hint, type(came)))
    return arguments if len(arguments) == 2 else (Any, Any)


# -- comparing ---------------------------------------------------------------------------------------------------------
def _is_equal(arrived: Any, came: Any) -> bool:
    try:
        return bool(arrived == came)
    except Exception:  # arrays compare item by item
        return False


def _is_same_encoded(arrived: Any, came: Any) -> bool:
    if isinstance(came, collections.abc.Set):  # without an order
        return len(arrived) == len(came)
    try:
        return encode_msgpack(arrived) == encode_msgpack(came)
    except UsageError:
        return False


def _first(found: Iterator[str]) -> str:
    return next(filter(None, found), "")


def _wrong_class(hint: Any, came: Any, place: str) -> str:
    where = f"{place.lstrip('.')} is" if place else "it is"
    return f"{where} a {type(came).__qualname__} where {type_name(hint)} is expected"


def _lost(came: Any, place: str) -> str:
    where = f"{place.lstrip('.')}, a" if place else "a"
    return f"{where} {type(came).__qualname__}, is not the same after the way to another process"
