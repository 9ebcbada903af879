"""One spelling for the values of a type hint, records and containers included (see `scalars` for plain values).

A speller follows the hint, not the value: numbers in a record are of the kind that its field says. In keys, sets and
dictionaries have an order, so that equal ones have equal bytes. A record must be of the very class that the hint names:
a subclass would arrive as what it is derived from, and is refused.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import functools
import types
import typing
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from fusion_cluster.wire import hooks
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.scalars import EXACT_SCALARS, FOREIGN, KEY_SCALARS, Spelling, spell_int, unwrapped

type_alias_type: Final = getattr(typing, "TypeAliasType", None)
"""Class of Python 3.12's `type X = ...`, None before."""

MAX_DEPTH: Final = 64
"""Deepest nesting of values whose type sets no limit."""

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack)


def plain_hint(hint: Any) -> Any:
    """Return a hint without NewType, Annotated and type aliases; None is NoneType."""
    while True:
        if hint is None:
            return types.NoneType
        if isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type_alias_type is not None and isinstance(hint, type_alias_type):
            hint = hint.__value__
        elif get_origin(hint) is typing.Annotated:
            hint = get_args(hint)[0]
        else:
            return hint


class Speller:
    """Makes the spellings of hints.

    Args:
        is_key: equal values must give equal bytes; with False they travel as they are (`Decimal("1.20")` stays so, and
            a dictionary keeps its order).
    """

    def __init__(self, *, is_key: bool) -> None:
        self._is_key = is_key
        self._scalars = KEY_SCALARS if is_key else EXACT_SCALARS
        self._records: dict[Any, Spelling] = {}

    def of(self, hint: Any) -> Spelling:
        """Return the spelling of a hint's values.

        It raises ValueError for values that would arrive as others; what does not fit the hint is left as it is.
        """
        hint = plain_hint(hint)
        if isinstance(hint, type) and hint in self._scalars:
            return self._scalars[hint]
        if isinstance(hint, typing.TypeVar):
            return self._type_variable(hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin is typing.Literal:
            return functools.partial(_literal, arguments)
        kind = origin or hint
        if not isinstance(kind, type) or kind is object or kind is Any:
            return self._untyped
        if kind is tuple and (arguments or hint == tuple[()]):
            return self._tuple(arguments)
        record = self._record(hint, kind)
        if record is not None:
            return record
        return self._other(kind, arguments)

    def _other(self, kind: type, arguments: tuple[Any, ...]) -> Spelling:
        if issubclass(kind, enum.Enum):
            return _same
        if issubclass(kind, str | bytes | int | float):
            return self._scalars[next(plain for plain in (str, bytes, int, float) if issubclass(kind, plain))]
        if issubclass(kind, collections.abc.Mapping):
            key, item = arguments if len(arguments) == 2 else (Any, Any)
            return functools.partial(self._dict, self.of(key), self.of(item))
        each = self.of(arguments[0]) if arguments else self._untyped
        if issubclass(kind, collections.abc.Set):
            return functools.partial(self._set, each)
        if issubclass(kind, tuple) or (kind.__module__ == "collections.abc" or issubclass(kind, list)):
            return functools.partial(_sequence, each)
        return _same

    def _type_variable(self, hint: typing.TypeVar) -> Spelling:
        if hint.__constraints__:
            return self._union(hint.__constraints__)
        return self._untyped if hint.__bound__ is None else self.of(hint.__bound__)

    # -- unions
    def _union(self, members: tuple[Any, ...]) -> Spelling:
        others = [member for member in map(plain_hint, members) if member is not types.NoneType]
        if len(others) == 1:
            one = self.of(others[0])
            return lambda value: None if value is None else one(value)
        choices = [(_class_of(member), self.of(member)) for member in others]
        by_class = dict(reversed(choices))

        def spell(value: Any) -> Any:
            if value is None:
                return None
            chosen = by_class.get(type(value))
            if chosen is not None:
                return chosen(value)
            for kind, one in choices:
                if isinstance(value, kind):
                    return one(value)
            for _, one in choices:
                spelled = one(value)
                if spelled is not value:
                    return spelled
            return value

        return spell

    # -- containers
    def _tuple(self, members: tuple[Any, ...]) -> Spelling:
        if len(members) == 2 and members[1] is Ellipsis:
            return functools.partial(_sequence, self.of(members[0]))
        each = [self.of(member) for member in members]

        def spell(value: Any) -> Any:
            if not isinstance(value, tuple | list) or len(value) != len(each):
                return _ordered(value)
            return [one(item) for one, item in zip(each, value, strict=True)]

        return spell

    def _set(self, each: Spelling, value: Any) -> Any:
        if not isinstance(value, set | frozenset | tuple | list | collections.abc.Set):
            return value
        items = [each(item) for item in value]
        return sorted(items, key=_encoder.encode) if self._is_key else items

    def _dict(self, key: Spelling, item: Spelling, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        items = [(_hashable(key(k)), item(v)) for k, v in value.items()]
        if self._is_key:
            items.sort(key=lambda pair: _encoder.encode(pair[0]))
        spelled = dict(items)
        if len(spelled) < len(items):
            raise ValueError("two keys of a dictionary are the same when encoded")
        return spelled

    # -- records
    def _record(self, hint: Any, kind: type) -> Spelling | None:
        if not (is_record_class(kind) or typing.is_typeddict(kind)):
            return None
        try:
            known = self._records.get(hint)
        except TypeError:  # arguments without a hash
            return _Record(self, hint, kind)
        if known is None:
            known = self._records[hint] = _Record(self, hint, kind)
        return known

    # -- values whose type is not said
    def _untyped(self, value: Any) -> Any:
        return self.free(value, is_checked=True, depth=0)

    def free(self, value: Any, *, is_checked: bool = False, depth: int = 0) -> Any:
        """Return the spelling of a value by its own class.

        Args:
            value: which.
            is_checked: refuse what would arrive as something else: a Decimal as text, a record as a dictionary.
            depth: how deep it is in what is spelled.
        """
        kind = type(value)
        if value is None or kind is str or kind is int or kind is bool or kind is bytes:
            return value
        if depth >= MAX_DEPTH and not isinstance(value, enum.Enum | float):
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        inside = functools.partial(self.free, is_checked=is_checked, depth=depth + 1)
        value = unwrapped(value)
        if isinstance(value, tuple | list):
            return [inside(item) for item in value]
        if isinstance(value, collections.abc.Set):
            return self._set(inside, value)
        if isinstance(value, Mapping):
            return self._dict(inside, inside, value)
        if is_checked and not _arrives_as_it_is(value):
            name = type_name(type(value))
            raise ValueError(
                f"values of the class {name} cannot travel without a type hint: declare the type of the parameter, "
                f"as {name} or list[{name}]"
            )
        if hooks.is_pydantic_model(type(value)):
            return inside(value.model_dump(mode="python", round_trip=True))
        if is_record_class(type(value)):
            return _Record(self, type(value), type(value))(value)
        for plain in (bool, int, float, str, bytes, Decimal, datetime.datetime):
            if isinstance(value, plain):
                return self._scalars[plain](value)
        foreign = FOREIGN.get(type(value))
        return value if foreign is None else foreign[0](value)


def canonical(value: Any) -> Any:
    """Return the one spelling of a value of unknown type; numbers of different kinds stay different."""
    return Speller(is_key=True).free(value)


class _Record:
    """The spelling of a record: its fields by their names when encoded. They are looked up when first needed, so that a
    record may contain records of its own kind."""

    def __init__(self, speller: Speller, hint: Any, kind: type) -> None:
        self._speller = speller
        self._hint = hint
        self._kind = kind
        self._is_model = hooks.is_pydantic_model(kind)
        self._is_mapping = typing.is_typeddict(kind)
        config = kind.__struct_config__ if issubclass(kind, msgspec.Struct) else None
        self._is_array = issubclass(kind, tuple) or (config is not None and config.array_like)
        self._tag: Any = None if config is None else config.tag
        self._tag_field: Any = None if config is None else config.tag_field

    @functools.cached_property
    def _fields(self) -> tuple[tuple[str, str, Spelling], ...]:
        """Of each field: its name, its name when encoded, its spelling."""
        known: dict[str, Any] = typing.get_type_hints(self._kind)
        variables = dict(zip(getattr(self._kind, "__parameters__", ()), get_args(self._hint), strict=False))
        if dataclasses.is_dataclass(self._kind):
            names = [(field.name, field.name) for field in dataclasses.fields(self._kind)]
        elif issubclass(self._kind, msgspec.Struct):
            names = [(field.name, field.encode_name) for field in msgspec.structs.fields(self._kind)]
        elif self._is_mapping:
            names = [(name, name) for name in known]
        else:
            names = [(name, name) for name in self._kind._fields]  # type: ignore[attr-defined]
        return tuple(
            (name, encoded, self._speller.of(substituted(known.get(name, Any), variables))) for name, encoded in names
        )

    def __call__(self, value: Any) -> Any:
        if self._is_mapping:
            return self._mapping(value)
        if type(value) is not self._kind:
            if isinstance(value, self._kind):
                raise ValueError(
                    f"a {type_name(type(value))} would arrive as the {type_name(self._kind)} that it is derived from: "
                    "name its class in the type hint"
                )
            if not (isinstance(value, tuple | list) and issubclass(self._kind, tuple)):
                return _ordered(value)  # decoding makes a record of a dictionary, or says what does not fit
            if len(value) > len(self._fields):
                return value
            return [one(item) for (_, _, one), item in zip(self._fields, value, strict=False)]
        record: Any = value
        if self._is_model:
            return self._speller.free(record.model_dump(mode="python", round_trip=True))
        if self._is_array:
            start = [] if self._tag is None else [self._tag]
            return start + [one(getattr(record, name)) for name, _, one in self._fields]
        spelled = {} if self._tag is None else {self._tag_field: self._tag}
        for name, encoded, one in self._fields:
            spelled[encoded] = one(getattr(record, name))
        return spelled

    def _mapping(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        known = {name: one(value[name]) for name, _, one in self._fields if name in value}
        return known | {name: item for name, item in value.items() if name not in known}


def is_record_class(kind: type) -> bool:
    """Tell whether it is a class of records: a dataclass, Struct, NamedTuple or pydantic model."""
    if issubclass(kind, tuple):
        return hasattr(kind, "_fields")
    return dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct) or hooks.is_pydantic_model(kind)


def type_parameters(hint: Any) -> tuple[Any, ...]:
    """Return the type variables in a hint, or of a generic class, in order."""
    if hooks.is_pydantic_model(hint):
        return tuple(getattr(hint, "__pydantic_generic_metadata__", {}).get("parameters", ()))
    found = getattr(hint, "__parameters__", ())
    return found if isinstance(found, tuple) else ()


def substituted(hint: Any, variables: Mapping[Any, Any]) -> Any:
    """Return a hint in which type variables are replaced by what they stand for, at any depth."""
    if isinstance(hint, typing.TypeVar):
        return variables.get(hint, hint)
    parameters = type_parameters(hint)
    is_open_class = isinstance(hint, type) and get_origin(hint) is None and not hooks.is_pydantic_model(hint)
    if is_open_class or not any(one in variables for one in parameters):
        return hint
    generic: Any = hint
    return generic[tuple(variables.get(one, one) for one in parameters)]


def _class_of(member: Any) -> type:
    kind = get_origin(member) or member
    if kind is typing.Literal:
        return type(get_args(member)[0])
    return kind if isinstance(kind, type) else object


def _literal(allowed: tuple[Any, ...], value: Any) -> Any:
    for one in allowed:
        if type(one) is type(value) and one == value:
            return value
    value = spell_int(value)  # what is equal stands for it: True for 1, a member of a StrEnum for its text
    return next((one for one in allowed if not isinstance(value, float) and one == value), value)


def _sequence(each: Spelling, value: Any) -> Any:
    if not isinstance(value, tuple | list):
        is_sequence = isinstance(value, collections.abc.Sequence | collections.deque)
        if not is_sequence or isinstance(value, str | bytes | bytearray | memoryview):
            return _ordered(value)
    return [each(item) for item in value]


def _ordered(value: Any) -> Any:
    if isinstance(value, collections.abc.Set):
        raise ValueError(f"Expected values in an order, got a `{type(value).__name__}`")
    return value


def _hashable(value: Any) -> Any:
    """Return a key of a dictionary with tuples for lists; their bytes are the same."""
    if isinstance(value, dict):
        raise ValueError("a record cannot be a key of a dictionary that travels")
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


_PLAIN: Final = (bool, int, float, str, bytes, bytearray, memoryview)


def _arrives_as_it_is(value: Any) -> bool:
    if isinstance(value, datetime.datetime):
        return value.utcoffset() is not None
    return isinstance(value, _PLAIN) and (not isinstance(value, enum.Enum) or isinstance(value, int | str))


def _same(value: Any) -> Any:
    return value
