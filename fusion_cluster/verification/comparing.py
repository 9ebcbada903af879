"""Compares values by their encoded forms, wherever they were computed.

The *normal form* of a value is what it is encoded to when it has travelled: values that are equal to a reader in
another process have equal normal forms. The order of the items of sets, and of the keys of dictionaries, does not
count.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec
import xxhash

from fusion_cluster.catalogue.method import Method
from fusion_cluster.errors import FusionError, UsageError
from fusion_cluster.strict.difference import difference, has_set
from fusion_cluster.wire.hints import decodable, parts_of
from fusion_cluster.wire.results import decode_result, encode_result

MAX_BYTES: Final = 2**20
"""Values that take more, encoded, are not compared: that would hold up the event loop."""

_MAX_PASSES: Final = 4

_UNORDERED: Final = (
    *(msgspec.inspect.SetType, msgspec.inspect.FrozenSetType),
    *(msgspec.inspect.AnyType, msgspec.inspect.CustomType),
)
"""The types of hints whose values may be sets, or hold some."""


def normal_form(method: Method, value: object) -> bytes:
    """Return the normal form of a result.

    Raises:
        FusionError: it cannot leave the process, or takes more than `MAX_BYTES`.
    """
    encoded = encode_result(method.name, value)
    arrived: object = value
    for _ in range(_MAX_PASSES):
        if len(encoded) > MAX_BYTES:
            raise UsageError(f"{method.name}: the result takes {len(encoded):,} bytes, more than {MAX_BYTES:,}")
        arrived = decode_result(method.name, method.result, encoded)
        again = encode_result(method.name, arrived)
        if again == encoded:
            break
        encoded = again
    if _may_hold_set(method.result.hint) and has_set(arrived):
        return _ordered(encoded, lists=True)
    return encoded


def digest_of(form: bytes) -> bytes:
    """Return the digest of a normal form: 16 bytes."""
    return xxhash.xxh3_128_digest(form)


def is_same(first: bytes, second: bytes, *, have_sets: bool = False) -> bool:
    """Tell whether two normal forms are those of equal values.

    Args:
        first: the one.
        second: the other.
        have_sets: there are sets in the values, which may be lists in their normal forms.
    """
    if first == second:
        return True
    try:
        return _ordered(first, lists=have_sets) == _ordered(second, lists=have_sets)
    except (msgspec.MsgspecError, TypeError, RecursionError):
        return False


def difference_of(form: bytes, value: object) -> str:
    """Describe in a few words how a value differs from the one whose normal form is given."""
    try:
        return difference(form, value)
    except (FusionError, msgspec.MsgspecError, TypeError, RecursionError):
        return ""


@functools.lru_cache(maxsize=4096)
def _known_to_hold_set(hint: Any) -> bool:
    return any(isinstance(part, _UNORDERED) for part in parts_of(decodable(hint)))


def _may_hold_set(hint: Any) -> bool:
    try:
        return _known_to_hold_set(hint)
    except TypeError:  # a hint that cannot be hashed
        return True


def _ordered(form: bytes, *, lists: bool = False) -> bytes:
    """Return a normal form with the keys of its dictionaries, and if asked for the items of its lists, in one order."""

    def ordered(plain: Any) -> Any:
        if isinstance(plain, dict):
            return dict(sorted(((key, ordered(item)) for key, item in plain.items()), key=_encoded_key))
        if isinstance(plain, list | tuple):
            items = [ordered(item) for item in plain]
            return sorted(items, key=msgspec.msgpack.encode) if lists else items
        return plain

    return msgspec.msgpack.encode(ordered(msgspec.msgpack.decode(form, strict=False)))


def _encoded_key(item: tuple[Any, Any]) -> bytes:
    return msgspec.msgpack.encode(item[0])
