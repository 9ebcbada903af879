"""Hooks for values that msgspec does not know: pydantic models, arrays and frames, subclasses of plain types.

pydantic is never imported here first: a value or a type of pydantic exists only if the user's code has imported it.
"""

from __future__ import annotations

import base64
import datetime
import sys
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any, get_args, get_origin

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.arrow import from_stream, library_of, to_stream
from fusion_cluster.wire.scalars import EXACT_SCALARS, FOREIGN


def is_pydantic_model(hint: object) -> bool:
    """Tell whether it is a pydantic model class."""
    return isinstance(hint, type) and hasattr(hint, "__pydantic_core_schema__") and hasattr(hint, "model_validate")


_PLAIN: tuple[type[Any], ...] = (int, float, str, bytes)
_KNOWN_BY_CLASS: tuple[type[Any], ...] = (Decimal, datetime.datetime, datetime.date, datetime.timedelta)
"""Types whose subclasses msgspec does not know: those of pandas, for example."""


class Alternatives(type):
    """Metaclass of the stand-ins that `wire.hints` puts in the place of what msgspec cannot decode by itself."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True  # msgspec checks what a hook returns against the stand-in

    def convert(cls, value: Any, *, from_json: bool) -> Any:
        """Make a value of the hint that the stand-in stands for from plain ones."""
        raise NotImplementedError


# -- encoding ----------------------------------------------------------------------------------------------------------
def to_msgpack(value: Any) -> Any:
    """Return a plain value for one that msgspec cannot encode."""
    if is_pydantic_model(type(value)):
        return value.model_dump(mode="python", round_trip=True)
    return _to_plain(value)


def to_json(value: Any) -> Any:
    """Return a plain value for one that msgspec cannot encode, by pydantic's own rules for JSON."""
    if is_pydantic_model(type(value)):
        return value.model_dump(mode="json", round_trip=True)
    return _to_plain(value)


def _to_plain(value: Any) -> Any:
    foreign = FOREIGN.get(type(value))
    if foreign is not None:
        return foreign[0](value)
    if library_of(type(value)) is not None:
        return to_stream(value)
    if isinstance(value, MappingProxyType):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int | bytes):
        return int(value) if isinstance(value, int) else bytes(value)
    for kind in _KNOWN_BY_CLASS:
        if isinstance(value, kind):
            return EXACT_SCALARS[kind](value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if any(kind.__module__ == "pydantic.networks" for kind in type(value).__mro__):
        return str(value)  # a URL in a pydantic model
    raise UsageError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot leave the process: use "
        "dataclasses, msgspec Structs, pydantic models, arrays, frames or plain types"
    )


# -- decoding ----------------------------------------------------------------------------------------------------------
def from_msgpack(hint: type, value: Any) -> Any:
    """Return a value of a type that msgspec does not know, made from the plain value that has arrived."""
    if _is_proxy(hint):
        return _proxy_from_plain(hint, value, from_msgpack)
    return _from_plain(hint, value, from_json=False)


def can_travel(kind: type) -> bool:
    """Tell whether values of a class that msgspec does not know can come from another process."""
    return (
        isinstance(kind, Alternatives)
        or kind in (object, MappingProxyType)
        or kind in FOREIGN
        or is_pydantic_model(kind)
        or library_of(kind) is not None
        or issubclass(kind, _PLAIN)
    )


def from_json(hint: type, value: Any) -> Any:
    """Do what `from_msgpack` does for a plain value that came as JSON."""
    if _is_proxy(hint):
        return _proxy_from_plain(hint, value, from_json)
    return _from_plain(hint, value, from_json=True)


def _is_proxy(hint: Any) -> bool:
    return hint is MappingProxyType or get_origin(hint) is MappingProxyType


def _proxy_from_plain(hint: Any, value: Any, hook: Callable[[type, Any], Any]) -> Any:
    mapping: Any = dict.__class_getitem__(get_args(hint) or (Any, Any))
    return MappingProxyType(msgspec.convert(value, mapping, dec_hook=hook))


def _from_plain(hint: type, value: Any, *, from_json: bool) -> Any:
    if hint is object:
        return value
    if isinstance(hint, Alternatives):
        return hint.convert(value, from_json=from_json)
    if hint in FOREIGN:
        return FOREIGN[hint][1](value)
    if is_pydantic_model(hint):
        return _pydantic_from_plain(hint, value, from_json=from_json)
    if library_of(hint) is not None:
        return _arrow_from_plain(hint, value)
    for plain in _PLAIN:
        if issubclass(hint, plain):
            return hint(msgspec.convert(value, plain))
    raise UsageError(
        f"a value of type {hint.__module__}.{hint.__qualname__} cannot come from another process: use "
        "dataclasses, msgspec Structs, pydantic models, arrays, frames or plain types"
    )


def _pydantic_from_plain(model: Any, value: Any, *, from_json: bool) -> Any:
    import pydantic

    try:
        if from_json:
            return model.model_validate_json(msgspec.json.encode(value), by_alias=True, by_name=True)
        return model.model_validate(value, strict=False, by_alias=True, by_name=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ValueError(f"{first['msg']} (at {model.__name__}{place})") from error


def _arrow_from_plain(hint: type, value: Any) -> Any:
    if isinstance(value, str):
        value = base64.b64decode(value, validate=True)
    if not isinstance(value, bytes):
        raise ValueError(f"Expected the bytes of an Arrow IPC stream, got `{type(value).__name__}`")
    return from_stream(hint, value)
