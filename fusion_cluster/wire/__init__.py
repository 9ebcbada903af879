"""Values on the wire: payload codecs, the table of errors, descriptions of types."""

from fusion_cluster.wire.codec import ArgumentsCodec, ValueCodec, encode_json, encode_msgpack, value_codec
from fusion_cluster.wire.description import json_schema, type_name
from fusion_cluster.wire.errors import decode_error, encode_error, error_code

__all__ = [
    "ArgumentsCodec",
    "ValueCodec",
    "decode_error",
    "encode_error",
    "encode_json",
    "encode_msgpack",
    "error_code",
    "json_schema",
    "type_name",
    "value_codec",
]
