"""Describes in a few words what has changed in a value."""

from __future__ import annotations

import reprlib
from typing import Any, Final

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.values import encode_msgpack

MAX_SHOWN_BYTES: Final = 16
"""Bytes up to this length are shown. Longer bytes, of arrays and frames, do not help a reader."""


def difference(encoded: bytes, value: Any) -> str:
    """Describe how `value` differs from its encoded form of before; "" if it does not differ."""
    try:
        now = encode_msgpack(value)
    except UsageError as error:
        return error.message
    if now == encoded:
        return ""
    before, after = msgspec.msgpack.decode(encoded, strict=False), msgspec.msgpack.decode(now, strict=False)
    if has_set(value) and _sorted(before) == _sorted(after):
        return ""  # the items of a set may come in any order
    return _first_difference(before, after, "")


def _first_difference(before: Any, after: Any, place: str) -> str:
    if isinstance(before, list) and isinstance(after, list):
        for index, (old, new) in enumerate(zip(before, after, strict=False)):
            if old != new or type(old) is not type(new):
                return _first_difference(old, new, f"{place}[{index}]")
        longer, word = (after, "is new") if len(after) > len(before) else (before, "is gone")
        shared = min(len(before), len(after))
        if shared < len(longer):
            return f"{place}[{shared}] {word}: {reprlib.repr(longer[shared])}"
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            where = f"{place}[{key!r}]"
            if key not in after:
                return f"{where} is gone: {reprlib.repr(before[key])}"
            if key not in before:
                return f"{where} is new: {reprlib.repr(after[key])}"
            if before[key] != after[key] or type(before[key]) is not type(after[key]):
                return _first_difference(before[key], after[key], where)
        return f"{place or 'it'} has its keys in another order"
    if isinstance(before, bytes) and isinstance(after, bytes) and max(len(before), len(after)) > MAX_SHOWN_BYTES:
        return f"{place or 'it'} has another content"
    return f"{place or 'it'} was {reprlib.repr(before)} and is {reprlib.repr(after)}"


def has_set(value: Any) -> bool:
    """Tell whether there is a set in a value, at any depth."""
    if isinstance(value, (set, frozenset)):
        return True
    if isinstance(value, dict):
        return any(map(has_set, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(has_set, value))
    fields = getattr(value, "__dict__", None) or {
        name: getattr(value, name, None) for name in getattr(value, "__struct_fields__", ())
    }
    return any(map(has_set, fields.values()))


def _sorted(plain: Any) -> Any:
    """Return the plain value, with each list in the order of its encoded items."""
    if isinstance(plain, list):
        return sorted(map(_sorted, plain), key=msgspec.msgpack.encode)
    if isinstance(plain, dict):
        return {key: _sorted(item) for key, item in plain.items()}
    return plain
