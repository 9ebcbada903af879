"""Payloads: arguments in, values out, in the encoding that the client chose."""

from __future__ import annotations

from typing import Any, Literal

from fusion_cluster.catalogue.method import Method
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.failures.exits import body_exited
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import ArgumentsCodec
from fusion_cluster.wire.results import check_result_size, encode_result

Encoding = Literal["json", "msgpack"]


def decode_arguments(
    codec: ArgumentsCodec, payload: gateway_pb2.Payload, *, max_bytes: int
) -> tuple[tuple[Any, ...], Encoding]:
    """Return the canonical arguments in a payload, and the encoding of the reply.

    A payload without content means no arguments, in JSON.

    Raises:
        InvalidArgument: they are too large, in an encoding that is not supported, or do not fit the method; `field`
            names the parameter, or is "arguments" if no single one is wrong.
    """
    encoding = payload.WhichOneof("encoding")
    size_bytes = payload.ByteSize()
    if size_bytes > max_bytes:
        raise InvalidArgument(
            f"{codec.name}: the arguments take {size_bytes:,} bytes, more than {max_bytes:,}", field="arguments"
        )
    if encoding == "arrow":
        raise InvalidArgument("arguments come as json or msgpack; arrow is not supported", field="arguments")
    try:
        if encoding == "msgpack":
            return codec.decode_msgpack(payload.msgpack), "msgpack"
        return codec.decode_json(payload.json if encoding == "json" else "[]"), "json"
    except Exception:
        raise
    except BaseException as error:  # from a class of an argument, when it was made
        raise body_exited(f"{codec.name}: the class of an argument", error) from error


def encode_payload(method: Method, value: object, encoding: Encoding) -> gateway_pb2.Payload:
    """Encode a method's result in the encoding of its request.

    Raises:
        UsageError: the value's type cannot be encoded.
        ResourceExhausted: it is too large.
    """
    if encoding == "msgpack":
        return gateway_pb2.Payload(msgpack=encode_result(method.name, value))
    encoded = method.result.encode_json(value)
    check_result_size(method.name, len(encoded.encode()))
    return gateway_pb2.Payload(json=encoded)
