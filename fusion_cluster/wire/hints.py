"""Type hints that msgspec cannot decode, made decodable.

msgspec refuses unions with more than one record type (dataclass, pydantic model, ...), enumerations of other values
than texts or ints, and types that contain either. Here each part of a hint that it refuses is replaced by a stand-in
class whose values are converted by us: a record by the names of its fields, a member of an enumeration by its encoded
value.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.wire import hooks
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.models import require_clear_unions

_msgpack = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack)
_json = msgspec.json.Encoder(enc_hook=hooks.to_json)
_DICTIONARIES = (
    *(msgspec.inspect.DictType, msgspec.inspect.DataclassType, msgspec.inspect.StructType),
    msgspec.inspect.TypedDictType,
)
_INIT_VARIABLE = dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
_NO_TYPES = frozenset({"cls", "default", "default_factory", "name", "encode_name", "required"})


def decodable(hint: Any) -> Any:
    """Return the hint, or one that msgspec decodes to the same values with the hooks of `wire.hooks`.

    Raises:
        UsageError: values of the hint cannot be told apart in an encoding, or cannot travel.
    """
    return _decodable(hint, {})


_Known = dict[Any, Any]
"""The stand-ins of the records around a hint, which may contain records of their own kind."""


def _decodable(hint: Any, known: _Known) -> Any:
    if hint is None or hint is typing.Any or hint is object:
        return hint
    try:
        msgspec.msgpack.Decoder(hint)
    except (TypeError, NotImplementedError, RecursionError) as error:
        return _replaced(hint, error, known)
    for part in parts_of(hint):
        _refuse_what_never_arrives(part)
    return hint


def _refuse_what_never_arrives(part: Any) -> None:
    if isinstance(part, msgspec.inspect.CustomType) and not hooks.can_travel(part.cls):
        raise UsageError(
            f"values of the type {type_name(part.cls)} cannot travel to another process: use dataclasses, msgspec "
            "Structs, pydantic models, arrays, frames or plain types"
        )
    if isinstance(part, msgspec.inspect.DictType) and isinstance(part.key_type, _DICTIONARIES):
        raise UsageError("records and dictionaries cannot be keys of a dictionary that travels: use tuples")
    if isinstance(part, msgspec.inspect.DataclassType):
        _refuse_lost_fields(part.cls)
    if isinstance(part, msgspec.inspect.CustomType) and hooks.is_pydantic_model(part.cls):
        require_clear_unions(part.cls)


def _refuse_lost_fields(record: Any) -> None:
    """Refuse a class that must be given something that is not encoded: `InitVar`s, and private fields of attrs."""
    lost = [field.name for field in getattr(record, "__attrs_attrs__", ()) if field.name.startswith("_")]
    for name, field in getattr(record, "__dataclass_fields__", {}).items():
        if field._field_type is _INIT_VARIABLE and field.default is dataclasses.MISSING:
            lost.append(name)
    if lost:
        raise UsageError(
            f"objects of the class {type_name(record)} cannot be made again in another process, for {lost[0]!r} does "
            "not travel: make it an ordinary field with a public name"
        )


def custom_classes(hint: Any) -> set[type]:
    """Return the classes in a hint, at any depth, that msgspec leaves to the hooks."""
    return {part.cls for part in parts_of(hint) if isinstance(part, msgspec.inspect.CustomType)}


def parts_of(hint: Any) -> Iterator[Any]:
    """Give what msgspec knows of a hint and of the types in it, at any depth."""
    seen: set[int] = set()
    waiting: list[Any] = [msgspec.inspect.type_info(hint)]
    while waiting:
        info = waiting.pop()
        if isinstance(info, tuple):
            waiting.extend(info)
        elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) and id(info) not in seen:
            seen.add(id(info))
            yield info
            waiting.extend(getattr(info, name) for name in info.__struct_fields__ if name not in _NO_TYPES)


def _replaced(hint: Any, reason: BaseException, known: _Known) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(hint, arguments, reason, known)
    if origin is typing.Annotated:
        return _decodable(arguments[0], known)
    if origin is typing.Literal:
        return _one_of(hint, arguments)
    if origin is not None and arguments:
        try:
            replaced = origin[tuple(a if a is Ellipsis else _decodable(a, known) for a in arguments)]
            msgspec.msgpack.Decoder(replaced)
        except TypeError:
            pass
        else:
            return replaced
    if isinstance(hint, enum.EnumMeta):
        return _one_of(hint, hint)
    if isinstance(hint, type) and (_is_named_by_fields(hint) or typing.is_typeddict(hint)):
        return known[hint] if hint in known else _fields_replaced(hint, known)
    raise UsageError(f"values of the type {type_name(hint)} cannot be told apart when encoded: {reason}") from reason


# -- one of some values ------------------------------------------------------------------------------------------------
def _one_of(hint: Any, allowed: Iterable[Any]) -> Any:
    """Return a stand-in for an enumeration or a Literal, whose values are found by their encoded form."""
    values = tuple(allowed)
    if any(isinstance(getattr(value, "value", value), set | frozenset) for value in values):
        raise UsageError(f"a value of {type_name(hint)} is a set, which is encoded in no order: use a tuple")
    try:
        in_msgpack = {_msgpack.encode(value): value for value in values}
        in_json = {_msgpack.encode(msgspec.json.decode(_json.encode(value))): value for value in values}
    except (UsageError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"a value of {type_name(hint)} cannot travel: {error}") from error
    if len(in_json) < len(values):
        raise UsageError(f"two values of {type_name(hint)} are the same when encoded")

    def convert(value: Any, *, from_json: bool) -> Any:
        try:
            return (in_json if from_json else in_msgpack)[_msgpack.encode(value)]
        except KeyError:
            raise ValueError(f"Invalid value {value!r}: it is not one of {type_name(hint)}") from None

    return _stand_in(hint, convert)


# -- unions of records -------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Record:
    """A member of a union, told from the others by the names of its fields."""

    hint: Any
    names: frozenset[str]
    required: frozenset[str]

    def fits(self, names: frozenset[str]) -> bool:
        return self.required <= names <= self.names


def _union(hint: Any, members: tuple[Any, ...], reason: BaseException, known: _Known) -> Any:
    try:
        replaced = Union[tuple(_decodable(member, known) for member in members)]  # type: ignore[valid-type]  # noqa: UP007
        msgspec.msgpack.Decoder(replaced)
    except TypeError:
        pass
    else:
        return replaced
    records = [record for member in members if (record := _record(member)) is not None]
    others = tuple(member for member in members if _record(member) is None)
    shapes = {record.names for record in records}
    if len(records) < 1 or len(shapes) < len(records):
        advice = "use records with different fields, or msgspec Structs with tags"
        if not records:
            advice = (
                "at most one of them may be a text in JSON (str, bytes, Decimal, a time, UUID, ...), one a number of a "
                "kind, one an array, one a dictionary: use one of them, or a record with an optional field for each"
            )
        raise UsageError(f"the members of {type_name(hint)} cannot be told apart when encoded: {advice}") from reason
    rest = _decodable(Union[others], known) if others else None  # noqa: UP007
    choices = [dataclasses.replace(record, hint=_decodable(record.hint, known)) for record in records]

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
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            yield field.name


# -- records with a field that msgspec refuses -------------------------------------------------------------------------
def _is_named_by_fields(kind: type) -> bool:
    """Tell whether it is a class of records that are encoded as dictionaries."""
    if issubclass(kind, msgspec.Struct):
        return not kind.__struct_config__.array_like
    return dataclasses.is_dataclass(kind)


def _fields_replaced(kind: Any, known: _Known) -> Any:
    """Return a stand-in for a class of records, whose fields are converted one by one."""
    _refuse_lost_fields(kind)
    hints = typing.get_type_hints(kind)
    names, required = _names_of(kind, hints)
    tag = kind.__struct_config__ if issubclass(kind, msgspec.Struct) else None
    fields: dict[str, Any] = {}
    set_later = {name for name, field in getattr(kind, "__dataclass_fields__", {}).items() if not field.init}

    def convert(value: Any, *, from_json: bool) -> Any:
        hook = hooks.from_json if from_json else hooks.from_msgpack
        if not isinstance(value, dict):
            raise ValueError(f"Expected `object`, got `{type(value).__name__}`")
        missing = required - value.keys()
        if missing:
            raise ValueError(f"Object missing required field `{min(missing)}`")
        if tag is not None and tag.tag is not None and value.get(tag.tag_field) != tag.tag:
            raise ValueError(f"Invalid value {value.get(tag.tag_field)!r} - at `$.{tag.tag_field}`")
        given = {names[n]: msgspec.convert(value[n], fields[n], dec_hook=hook) for n in names if n in value}
        made = kind(**{name: item for name, item in given.items() if name not in set_later})
        for name in set_later & given.keys():
            object.__setattr__(made, name, given[name])
        return made

    stand_in = known[kind] = _stand_in(kind, convert)
    fields |= {encoded: _decodable(hints[name], known) for encoded, name in names.items()}
    return stand_in


def _names_of(kind: Any, hints: dict[str, Any]) -> tuple[dict[str, str], frozenset[str]]:
    """Return the names of fields by their encoded names, and the encoded names that must be there."""
    if typing.is_typeddict(kind):
        return {name: name for name in hints}, frozenset(kind.__required_keys__)
    record = _record(kind)
    assert record is not None
    if issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.name for field in msgspec.structs.fields(kind)}, record.required
    return {field.name: field.name for field in dataclasses.fields(kind)}, record.required


class _Convert(typing.Protocol):
    def __call__(self, value: Any, *, from_json: bool) -> Any: ...


def _stand_in(hint: Any, convert: _Convert) -> Any:
    class StandIn(hooks.Alternatives):
        def convert(self, value: Any, *, from_json: bool) -> Any:
            return convert(value, from_json=from_json)

    return StandIn(type_name(hint), (), {})
