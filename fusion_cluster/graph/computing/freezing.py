"""Values that nobody can change: what `freeze=True` makes of a result before it is cached.

Lists become tuples, dictionaries `MappingProxyType`s, sets frozensets, bytearrays bytes, at any depth. A frozen record
(dataclass, msgspec Struct, pydantic model) stays what it is; where one of its fields holds something that can be
changed, a copy of it holds the frozen field. A record whose fields can be assigned cannot be frozen, and is refused.
What was frozen already is given back as it is, so values of plain types cost no copy.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import fractions
import sys
import uuid
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType, NoneType
from typing import Any, Final

import msgspec

from fusion_cluster.errors import InvalidResult
from fusion_cluster.graph.core.hot_path import Node

_MOST_VALUES: Final = frozenset({int, str, float, bool, NoneType, Decimal})
_UNCHANGEABLE: Final = (
    *(bool, int, float, complex, str, bytes, NoneType, Decimal, uuid.UUID, enum.Enum, fractions.Fraction),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
)


def freeze_result(node: Node[Any], value: Any) -> Any:
    """Return the frozen form of what a computation has given.

    Raises:
        InvalidResult: it cannot be frozen; the message names the method.
    """
    try:
        return frozen(value)
    except CannotFreeze as error:
        raise InvalidResult(f"{node.function.name}: its result cannot be frozen: {error}", field="return") from None


class CannotFreeze(TypeError):
    """There is something in the value that cannot be kept from being changed."""


def frozen(value: Any) -> Any:
    """Return the frozen form of a value, which is the value itself where nothing in it can be changed.

    Raises:
        CannotFreeze: there is something in it that cannot be frozen.
    """
    try:
        return _frozen(value)
    except RecursionError:
        raise CannotFreeze("it is nested too deeply, or contains itself") from None


def is_frozen(value: Any) -> bool:
    """Tell whether nothing in a value can be changed."""
    try:
        return _frozen(value) is value
    except (CannotFreeze, RecursionError):
        return False


def _frozen(value: Any) -> Any:
    kind = type(value)
    if kind in _MOST_VALUES or isinstance(value, _UNCHANGEABLE):
        return value
    if isinstance(value, (tuple, list)):
        return _frozen_sequence(value, kind)
    if isinstance(value, Mapping):
        # Never as it is: somebody may hold the dictionary that a proxy stands for.
        return MappingProxyType({_frozen(key): _frozen(item) for key, item in value.items()})
    if isinstance(value, (set, frozenset)):
        return _frozen_set(value, kind)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return _frozen_other(value, kind)


def _frozen_sequence(value: Any, kind: type) -> Any:
    items = [_frozen(item) for item in value]
    if kind is not tuple and isinstance(value, tuple) and hasattr(kind, "_make"):  # a named tuple
        return value if _is_all_same(items, value) else kind._make(items)
    return value if kind is tuple and _is_all_same(items, value) else tuple(items)


def _frozen_set(value: Any, kind: type) -> Any:
    items = [_frozen(item) for item in value]
    return value if kind is frozenset and _is_all_same(items, value) else frozenset(items)


def _frozen_other(value: Any, kind: type[Any]) -> Any:
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        is_fixed = bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
        return _frozen_record(value, names, is_fixed, 'declare it with "@dataclass(frozen=True)"')
    if isinstance(value, msgspec.Struct):
        return _frozen_record(
            value, kind.__struct_fields__, kind.__struct_config__.frozen, "declare it with frozen=True"
        )
    if hasattr(kind, "__pydantic_core_schema__") and hasattr(kind, "model_fields"):
        is_fixed = bool(kind.model_config.get("frozen"))
        return _frozen_record(value, list(kind.model_fields), is_fixed, 'give it model_config = {"frozen": True}')
    if kind.__module__.partition(".")[0] == "pyarrow":
        return value  # to change one is to make another
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _frozen_array(value)
    raise CannotFreeze(f"a {kind.__qualname__} can be changed by whoever reads it")


def _frozen_record(value: Any, names: Any, is_fixed: bool, advice: str) -> Any:
    if not is_fixed:
        raise CannotFreeze(f"the fields of a {type(value).__qualname__} can be assigned: {advice}")
    changed = {}
    for name in names:
        item = getattr(value, name)
        item_frozen = _frozen(item)
        if item_frozen is not item:
            changed[name] = item_frozen
    if not changed:
        return value
    record = copy.copy(value)
    for name, item in changed.items():
        if isinstance(record, msgspec.Struct):
            msgspec.structs.force_setattr(record, name, item)
        elif hasattr(type(record), "__pydantic_core_schema__"):
            record.__dict__[name] = item
        else:
            object.__setattr__(record, name, item)
    return record


def _frozen_array(value: Any) -> Any:
    if not value.flags.writeable and value.base is None:
        return value
    array = value.copy()
    array.flags.writeable = False
    return array


def _is_all_same(items: Any, others: Any) -> bool:
    return all(item is other for item, other in zip(items, others, strict=True))
