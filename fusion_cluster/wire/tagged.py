"""Plain values of any type, in msgpack: what comes back is of the type that it was.

msgpack itself has no tuples, sets or decimals, so whatever is not a number, text or bytes is a pair of a tag and parts.
For values without a type hint: the arguments and attributes of exceptions.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

MAX_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 8
_INT64: Final = 2**63

_AS_TEXT: Final[dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]]] = {
    int: ("i", str, int),
    Decimal: ("n", str, Decimal),
    uuid.UUID: ("u", str, uuid.UUID),
    datetime.datetime: ("t", datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: ("y", datetime.date.isoformat, datetime.date.fromisoformat),
}
_HOLDING: Final[dict[type, tuple[str, Callable[[Iterable[Any]], Any]]]] = {
    tuple: ("p", tuple),
    list: ("l", list),
    set: ("s", set),
    frozenset: ("f", frozenset),
    dict: ("d", lambda parts: dict(_pairs(list(parts)))),
}
_FROM_TEXT: Final = {tag: read for tag, _, read in _AS_TEXT.values()}
_FROM_PARTS: Final = dict(_HOLDING.values())


class NotPlainError(ValueError):
    """There is something in the value that does not travel, or too much."""


def encode_tagged(value: object) -> bytes:
    """Return a plain value as bytes.

    Raises:
        NotPlainError: it is not plain, or too large.
    """
    try:
        encoded = msgspec.msgpack.encode(_tagged(value, MAX_DEPTH, [MAX_BYTES]))
    except UnicodeEncodeError as error:
        raise NotPlainError(str(error)) from error
    if len(encoded) > MAX_BYTES:
        raise NotPlainError(f"more than {MAX_BYTES} bytes")
    return encoded


def decode_tagged(encoded: bytes) -> Any:
    """Return the value that `encode_tagged` has made bytes of.

    Raises:
        NotPlainError: it has not made these.
    """
    try:
        return _untagged(msgspec.msgpack.decode(encoded), MAX_DEPTH)
    except (msgspec.DecodeError, ValueError, TypeError, ArithmeticError) as error:
        raise NotPlainError(str(error)) from error


def _tagged(value: object, depth: int, room: list[int]) -> Any:
    kind = type(value)
    room[0] -= len(value) + 1 if isinstance(value, str | bytes) else 1
    if depth < 0 or room[0] < 0:
        raise NotPlainError("too much")
    if value is None or kind in (bool, float, str, bytes) or (kind is int and -_INT64 <= value < _INT64):  # type: ignore[operator]
        return value
    if kind in _AS_TEXT:
        tag, write, _ = _AS_TEXT[kind]
        return [tag, write(value)]
    if kind in _HOLDING:
        parts: Any = value
        if isinstance(value, dict):
            parts = [part for pair in value.items() for part in pair]
        return [_HOLDING[kind][0], [_tagged(part, depth - 1, room) for part in parts]]
    raise NotPlainError(f"a {kind.__name__}")


def _untagged(value: Any, depth: int) -> Any:
    if not isinstance(value, list):
        return value
    if depth < 0:
        raise NotPlainError("too deep")
    tag, parts = value
    if tag in _FROM_TEXT:
        return _FROM_TEXT[tag](parts)
    if tag in _FROM_PARTS:
        return _FROM_PARTS[tag](_untagged(part, depth - 1) for part in parts)
    raise NotPlainError(f"there is no tag {tag!r}")


def _pairs(parts: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(parts[::2], parts[1::2], strict=True)
