"""Values as bytes: msgpack inside the cluster, msgpack or JSON outside, decoded by type hint.

Encoders and decoders are made once per type; a call allocates nothing but its result.
"""

from __future__ import annotations

import functools
from typing import Any, Generic, TypeVar, cast

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.wire import hooks
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.hints import decodable
from fusion_cluster.wire.offsets import may_hold_offset, with_whole_minutes

T = TypeVar("T")

_msgpack = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack)
_json = msgspec.json.Encoder(enc_hook=hooks.to_json)

# What encoding can raise, and what decoding can: hooks and users' __post_init__ may raise anything of the second kind.
ENCODING_ERRORS = (TypeError, ValueError, OverflowError, RecursionError)
DECODING_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)


def encode_msgpack(value: object) -> bytes:
    """Return a value as msgpack.

    Raises:
        UsageError: it, or something in it, is of a type that cannot leave the process.
    """
    try:
        return _msgpack.encode(value)
    except ENCODING_ERRORS as error:
        raise _not_encodable(value, error) from error


def encode_json(value: object) -> str:
    """Return a value as JSON. NaN and the infinities become null, bytes base64, Decimals strings.

    Raises:
        UsageError: it, or something in it, is of a type that cannot leave the process.
    """
    try:
        return _json.encode(value).decode()
    except ENCODING_ERRORS as error:
        raise _not_encodable(value, error) from error


def _not_encodable(value: object, error: BaseException) -> UsageError:
    reason = "it is nested too deeply, or contains itself" if isinstance(error, RecursionError) else str(error)
    return UsageError(f"a value of type {type_name(type(value))} cannot be encoded: {reason}")


class ValueCodec(Generic[T]):
    """Encodes and decodes values of one type; `value_codec` keeps one per type.

    Args:
        hint: the type; Any (or a type variable) decodes to plain values.

    Raises:
        UsageError: values of the type cannot be told apart when encoded.
    """

    __slots__ = ("_json", "_may_hold_offset", "_msgpack", "hint")

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        known = decodable(hint)
        self._msgpack = msgspec.msgpack.Decoder(known, dec_hook=hooks.from_msgpack)
        self._json = msgspec.json.Decoder(known, dec_hook=hooks.from_json)
        self._may_hold_offset = may_hold_offset(known)

    def encode_json(self, value: T) -> str:
        """Return a value as JSON, as `encode_json` does, with all instants as they are.

        Raises:
            UsageError: it, or something in it, cannot leave the process.
        """
        encoded = encode_json(value)
        if not self._may_hold_offset:
            return encoded
        try:
            kept = with_whole_minutes(value, encoded)
        except ENCODING_ERRORS as error:
            raise _not_encodable(value, error) from error
        return encoded if kept is value else encode_json(kept)

    def decode_msgpack(self, encoded: bytes) -> T:
        """Return the value that was encoded as msgpack.

        Raises:
            UsageError: it does not fit the type, or is not msgpack.
        """
        try:
            value: T = self._msgpack.decode(encoded)
        except DECODING_ERRORS as error:
            raise self._unfit(error) from error
        return value

    def decode_json(self, encoded: str | bytes) -> T:
        """Return the value that was encoded as JSON.

        Raises:
            UsageError: it does not fit the type, or is not JSON.
        """
        try:
            return cast(T, self._json.decode(encoded))
        except DECODING_ERRORS as error:
            raise self._unfit(error) from error

    def _unfit(self, error: BaseException) -> UsageError:
        return UsageError(f"the value does not fit its type {type_name(self.hint)}: {reason_of(error)}")


@functools.lru_cache(maxsize=4096)
def _cached_value_codec(hint: Any) -> ValueCodec[Any]:
    return ValueCodec(hint)


def value_codec(hint: Any) -> ValueCodec[Any]:
    """Return the codec of a type, made once."""
    try:
        return _cached_value_codec(hint)
    except TypeError:  # a hint that cannot be hashed, such as Annotated[int, []]
        return ValueCodec(hint)


def reason_of(error: BaseException) -> str:
    """Return what a decoder's error says, in words for the caller."""
    if isinstance(error, RecursionError):
        return "nested too deeply, or it contains itself"
    if isinstance(error, UnicodeError):
        return "not valid UTF-8"
    return str(error) or type(error).__name__
