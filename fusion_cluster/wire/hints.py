"""Type hints that msgspec cannot decode, made decodable.

msgspec refuses unions with more than one record type (dataclass, pydantic model, ...). Here each part of a hint that it
refuses is replaced by a stand-in class whose values are converted by us: a record by the names of its fields.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.wire import hooks
from fusion_cluster.wire.description import type_name

_NO_TYPES = frozenset({"cls", "default", "default_factory", "name", "encode_name", "required"})


def decodable(hint: Any) -> Any:
    """The hint, or one that msgspec decodes to the same values with the hooks of `wire.hooks`.

    Raises:
        UsageError: values of the hint cannot be told apart in an encoding, or cannot travel.
    """
    if hint is None or hint is typing.Any or hint is object:
        return hint
    try:
        msgspec.msgpack.Decoder(hint)
    except (TypeError, NotImplementedError, RecursionError) as error:
        return _replaced(hint, error)
    for kind in custom_classes(hint):
        if not hooks.can_travel(kind):
            raise UsageError(
                f"values of the type {type_name(kind)} cannot travel to another process: use dataclasses, msgspec "
                "Structs, pydantic models, arrays, frames or plain types"
            )
    return hint


def custom_classes(hint: Any) -> set[type]:
    """The classes in a hint, at any depth, that msgspec leaves to the hooks."""
    found: set[type] = set()
    seen: set[int] = set()
    waiting: list[Any] = [msgspec.inspect.type_info(hint)]
    while waiting:
        info = waiting.pop()
        if isinstance(info, tuple):
            waiting.extend(info)
        elif isinstance(info, msgspec.inspect.CustomType):
            found.add(info.cls)
        elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) and id(info) not in seen:
            seen.add(id(info))
            waiting.extend(getattr(info, name) for name in info.__struct_fields__ if name not in _NO_TYPES)
    return found


def _replaced(hint: Any, reason: BaseException) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(hint, arguments, reason)
    if origin is typing.Annotated:
        return decodable(arguments[0])
    if origin is not None and arguments:
        try:
            replaced = origin[tuple(a if a is Ellipsis else decodable(a) for a in arguments)]
            msgspec.msgpack.Decoder(replaced)
        except TypeError:
            pass
        else:
            return replaced
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint)
    raise UsageError(f"values of the type {type_name(hint)} cannot be told apart when encoded: {reason}") from reason


# -- unions of records -------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Record:
    """A member of a union, told from the others by the names of its fields."""

    hint: Any
    names: frozenset[str]
    required: frozenset[str]

    def fits(self, names: frozenset[str]) -> bool:
        return self.required <= names <= self.names


def _union(hint: Any, members: tuple[Any, ...], reason: BaseException) -> Any:
    records = [record for member in members if (record := _record(member)) is not None]
    others = tuple(member for member in members if _record(member) is None)
    shapes = {record.names for record in records}
    if len(records) < 1 or len(shapes) < len(records):
        raise UsageError(
            f"the members of {type_name(hint)} cannot be told apart when encoded: use records with different fields, "
            f"or msgspec Structs with tags ({reason})"
        ) from reason
    rest = decodable(Union[others]) if others else None  # noqa: UP007
    choices = [dataclasses.replace(record, hint=decodable(record.hint)) for record in records]

    def convert(value: Any, *, from_json: bool) -> Any:
        hook = hooks.from_json if from_json else hooks.from_msgpack
        if not isinstance(value, dict):
            if not others:
                raise ValueError(f"Expected `object`, got `{type(value).__name__}`")
            return msgspec.convert(value, rest, dec_hook=hook)
        names = frozenset(value)
        fitting = [c for c in choices if c.names == names] or [c for c in choices if c.fits(names)]
        if len(fitting) != 1:
            raise ValueError(f"the fields {sorted(map(str, names))} do not tell which of {type_name(hint)} it is")
        return msgspec.convert(value, fitting[0].hint, dec_hook=hook)

    return _stand_in(hint, convert)


def _record(hint: Any) -> _Record | None:
    if hooks.is_pydantic_model(hint):
        fields = hint.model_fields
        required = frozenset(name for name, field in fields.items() if field.is_required())
        return _Record(hint, frozenset(fields), required)
    origin = get_origin(hint) or hint
    if isinstance(origin, type) and dataclasses.is_dataclass(origin):
        return _Record(hint, frozenset(f.name for f in dataclasses.fields(origin)), frozenset(_required(origin)))
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        struct_fields = msgspec.structs.fields(origin)
        return _Record(
            hint,
            frozenset(f.encode_name for f in struct_fields),
            frozenset(f.encode_name for f in struct_fields if f.required),
        )
    return None


def _required(record: Any) -> Iterator[str]:
    for field in dataclasses.fields(record):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            yield field.name


# -- dataclasses with a field that msgspec refuses ---------------------------------------------------------------------
def _dataclass(record: type) -> Any:
    hints = typing.get_type_hints(record)
    fields = {field.name: decodable(hints[field.name]) for field in dataclasses.fields(record)}
    required = frozenset(_required(record))

    def convert(value: Any, *, from_json: bool) -> Any:
        hook = hooks.from_json if from_json else hooks.from_msgpack
        if not isinstance(value, dict):
            raise ValueError(f"Expected `object`, got `{type(value).__name__}`")
        missing = required - value.keys()
        if missing:
            raise ValueError(f"Object missing required field `{min(missing)}`")
        return record(**{n: msgspec.convert(value[n], fields[n], dec_hook=hook) for n in fields if n in value})

    return _stand_in(record, convert)


class _Convert(typing.Protocol):
    def __call__(self, value: Any, *, from_json: bool) -> Any: ...


def _stand_in(hint: Any, convert: _Convert) -> Any:
    class StandIn(hooks.Alternatives):
        def convert(self, value: Any, *, from_json: bool) -> Any:
            return convert(value, from_json=from_json)

    return StandIn(type_name(hint), (), {})
