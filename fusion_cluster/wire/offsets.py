"""Offsets of time zones in JSON, which has no seconds in them: `+01:00:30` would be written as `+01:00`.

Such an offset is that of a zone long ago, or made by hand. A `datetime` with one is written as the same instant in UTC;
a time of the day with one is refused, as it is among arguments.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, Final

import msgspec

from fusion_cluster.wire import hooks
from fusion_cluster.wire.hints import parts_of

_OFFSET: Final = re.compile(r'\d\d:\d\d(?:\.\d+)?[+-]\d\d:\d\d"')
_MINUTE: Final = datetime.timedelta(minutes=1)


def may_hold_offset(hint: Any) -> bool:
    """Tell whether something in the values of a hint may be a time in a zone."""
    return any(isinstance(part, _HOLDING) for part in parts_of(hint))


def with_whole_minutes(value: object, encoded: str) -> Any:
    """Return a value whose offsets JSON can have: the value itself, or plain values with the same content.

    Args:
        value: what is encoded.
        encoded: it in JSON, as it is written.

    Raises:
        ValueError: a time of the day has an offset that is not in whole minutes.
    """
    if _OFFSET.search(encoded) is None:
        return value
    plain = msgspec.to_builtins(value, builtin_types=_TIMES, enc_hook=hooks.to_msgpack)
    return _converted(plain) if _is_odd(plain) else value


_TIMES: Final = (datetime.datetime, datetime.time)
_HOLDING: Final = (
    *(msgspec.inspect.DateTimeType, msgspec.inspect.TimeType),
    *(msgspec.inspect.AnyType, msgspec.inspect.CustomType),
)


def _is_odd(value: Any) -> bool:
    if isinstance(value, _TIMES):
        offset = value.utcoffset()
        return offset is not None and bool(offset % _MINUTE)
    if isinstance(value, dict):
        return any(map(_is_odd, value)) or any(map(_is_odd, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_is_odd, value))


def _converted(value: Any) -> Any:
    if isinstance(value, datetime.time) and _is_odd(value):
        raise ValueError("a time of the day has an offset in whole minutes")
    if isinstance(value, datetime.datetime) and _is_odd(value):
        return value.astimezone(datetime.UTC)
    if isinstance(value, dict):
        return {_converted(key): _converted(item) for key, item in value.items()}
    return [_converted(item) for item in value] if isinstance(value, list | tuple | set | frozenset) else value
