"""Unions in the fields of pydantic models: refused where a value would arrive as one of another member.

pydantic chooses a member by the plain value that has arrived: `Decimal("1.20")` travels as a text, and for
`Decimal | str` that is a `str`. So at most one member may be a text, and so on, as for unions anywhere else.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import types
import typing
from collections.abc import Iterator
from typing import Any, Final, Union, get_args, get_origin

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.hooks import is_pydantic_model
from fusion_cluster.wire.scalars import FOREIGN, KEY_SCALARS
from fusion_cluster.wire.spelling import is_record_class, plain_hint

TEXT: Final = "text"
NUMBER: Final = "number"
DECIMAL: Final = "Decimal"
MAPPING: Final = "dictionary"
RECORD: Final = "record"

_NUMBERS: Final = (bool, int, float)
_ARRAYS: Final = (tuple, list, set, frozenset)
_TIMES: Final = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
_ADVICE: Final = (
    "of the members of a union in a pydantic model at most one may be a text in JSON (str, bytes, Decimal, a time, "
    "UUID, ...), one an array, one a dictionary; a Decimal and a number, an enumeration and its values, and records "
    "with the same fields are not told apart either. Use one of them, a field for each, or a discriminator"
)


def require_clear_unions(model: Any) -> None:
    """Check that what the fields of a pydantic model hold arrives as what it is.

    Raises:
        UsageError: members of a union cannot be told apart; the message names the model and the field.
    """
    seen: set[Any] = set()
    waiting = [model]
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for name, hint, is_told_apart in _fields(kind):
            for part, has_discriminator in _parts(hint, is_told_apart=is_told_apart):
                if get_origin(part) in (Union, types.UnionType):
                    _require_clear(part, f"{type_name(kind)}.{name}", has_discriminator=has_discriminator)
                elif is_pydantic_model(part) or (isinstance(part, type) and is_record_class(part)):
                    waiting.append(part)


def _fields(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """Give the name and the hint of each field of a record, and whether a discriminator tells its members apart."""
    if is_pydantic_model(kind):
        for name, field in kind.model_fields.items():
            yield name, field.annotation, field.discriminator is not None
        return
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):
        return
    for name, hint in hints.items():
        yield name, hint, False


def _parts(hint: Any, *, is_told_apart: bool) -> Iterator[tuple[Any, bool]]:
    """Give a hint and all that is in it, each with whether a discriminator tells its members apart."""
    if get_origin(hint) is typing.Annotated:
        first, *metadata = get_args(hint)
        is_told_apart = is_told_apart or any(getattr(one, "discriminator", None) is not None for one in metadata)
        yield from _parts(first, is_told_apart=is_told_apart)
        return
    hint = plain_hint(hint)
    yield hint, is_told_apart
    for argument in get_args(hint):
        if get_origin(hint) is not typing.Literal:
            yield from _parts(argument, is_told_apart=False)


def _require_clear(union: Any, place: str, *, has_discriminator: bool) -> None:
    members = [plain_hint(member) for member in get_args(union)]
    shapes = [(member, _shape(member)) for member in members if member is not types.NoneType]
    for (one, its), (other, others) in itertools.combinations(shapes, 2):
        if its is None or others is None or (its == others == RECORD and has_discriminator):
            continue
        if _are_mixed_up(one, its, other, others):
            raise UsageError(
                f"{place}: {type_name(one)} and {type_name(other)} in {type_name(union)} cannot be told apart when "
                f"encoded: {_ADVICE}"
            )


def _shape(member: Any) -> str | None:
    """Return what a member is when it is encoded; None: that is not known."""
    kind = get_origin(member) or member
    if kind is typing.Literal:
        kinds = {type(value) for value in get_args(member)}
        return _shape(kinds.pop()) if len(kinds) == 1 else None
    if not isinstance(kind, type):
        return None
    if issubclass(kind, enum.Enum):
        shapes = {_shape(type(one.value)) for one in kind}
        return shapes.pop() if len(shapes) == 1 else None
    if is_pydantic_model(kind) or typing.is_typeddict(kind) or (is_record_class(kind) and not issubclass(kind, tuple)):
        return RECORD
    if issubclass(kind, dict):
        return MAPPING
    if issubclass(kind, _ARRAYS):
        return next(one.__name__ for one in _ARRAYS if issubclass(kind, one))
    if issubclass(kind, decimal.Decimal):
        return DECIMAL
    if issubclass(kind, _NUMBERS):
        return NUMBER
    is_text = issubclass(kind, (str, bytes, *_TIMES)) or kind in KEY_SCALARS or kind in FOREIGN
    return TEXT if is_text or kind.__module__.startswith("pydantic") else None


def _are_mixed_up(one: Any, its: str, other: Any, others: str) -> bool:
    shapes = {its, others}
    if shapes == {NUMBER}:
        return _is_enumeration(one) or _is_enumeration(other)
    if shapes == {RECORD}:
        return _is_hidden_by(one, other) or _is_hidden_by(other, one)
    if shapes == {TEXT}:
        return not (_is_plain_text(one) and _is_plain_text(other))
    if shapes in ({TEXT, DECIMAL}, {NUMBER, DECIMAL}, {MAPPING, RECORD}):
        return True
    if shapes == {NUMBER, TEXT}:  # a number in a text, or a time as a number
        return (_is_enumeration(one) and _is_time(other)) or (_is_enumeration(other) and _is_time(one))
    arrays = {array.__name__ for array in _ARRAYS}
    return its != others and shapes <= arrays


def _is_enumeration(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, enum.Enum)


def _is_time(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, _TIMES)


def _is_plain_text(member: Any) -> bool:
    if get_origin(member) is typing.Literal:
        return True
    return isinstance(member, type) and issubclass(member, str) and not issubclass(member, enum.Enum)


def _is_hidden_by(one: Any, other: Any) -> bool:
    """Tell whether a value of one record may be taken for one of another: it has no field that the other has not."""
    names, required, literals = _names(one)
    other_names, other_required, other_literals = _names(other)
    if any(not literals[name] & other_literals[name] for name in literals.keys() & other_literals.keys()):
        return False
    return names <= other_names and other_required <= names and bool(required or not other_required)


def _names(record: Any) -> tuple[set[str], set[str], dict[str, set[Any]]]:
    """Return the names of a record's fields, those that must be there, and the values of those that have few."""
    kind = get_origin(record) or record
    fields = {name: hint for name, hint, _ in _fields(kind)}
    if is_pydantic_model(kind):
        required = {name for name, field in kind.model_fields.items() if field.is_required()}
    else:
        required = set(getattr(kind, "__required_keys__", fields))
    literals = {
        name: set(get_args(plain_hint(hint)))
        for name, hint in fields.items()
        if get_origin(plain_hint(hint)) is typing.Literal
    }
    return set(fields), required, literals
