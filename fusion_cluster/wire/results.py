"""Results of methods as bytes: what goes wrong with one is said with the method's name."""

from __future__ import annotations

from typing import Any, Final

from fusion_cluster.errors import InvalidResult, ResourceExhausted, UsageError
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE
from fusion_cluster.wire.values import ValueCodec, encode_msgpack

MAX_RESULT_BYTES: Final = MAX_PAYLOAD_SIZE
"""The most bytes that a result may take, encoded: as msgpack and as JSON, wherever it leaves its process."""


def check_result_size(method: str, size_bytes: int) -> None:
    """Refuse a result that is too large to leave the process, in whichever encoding.

    Raises:
        ResourceExhausted: it takes more than `MAX_RESULT_BYTES`.
    """
    if size_bytes > MAX_RESULT_BYTES:
        raise ResourceExhausted(
            f"{method}: the result takes {size_bytes:,} bytes, more than {MAX_RESULT_BYTES:,}: return it in parts",
            field="return",
        )


def encode_result(name: str, value: object) -> bytes:
    """Return what the method of that name has returned, as msgpack.

    Raises:
        InvalidResult: it, or something in it, is of a type that cannot leave the process.
        ResourceExhausted: it is too large.
    """
    try:
        encoded = encode_msgpack(value)
    except UsageError as error:
        raise InvalidResult(f"{name}: its result cannot leave the process: {error.message}", field="return") from error
    check_result_size(name, len(encoded))
    return encoded


def decode_result(name: str, codec: ValueCodec[Any], encoded: bytes) -> Any:
    """Return what the method of that name has returned elsewhere.

    Raises:
        InvalidResult: it is not what the method's annotation says.
    """
    try:
        return codec.decode_msgpack(encoded)
    except UsageError as error:
        raise InvalidResult(
            f"{name} says that it returns {type_name(codec.hint)}, and has returned something else: {error.message}",
            field="return",
        ) from error
