"""Reads: from the bytes of a `CallRequest` to its computed, and from that to the bytes of the reply.

The hot path of the gateway. A request that came before, byte for byte, needs no decoding, and a computed whose value
was sent before, in the same encoding, needs no encoding: both are looked up by the bytes of the request.

Invariant: a kept reply is sent only for a computed that the graph has just given and whose version is the reply's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from fusion_cluster.errors import InvalidArgument, ResourceExhausted
from fusion_cluster.failures.exits import in_words, reraise_outside
from fusion_cluster.graph import Computed, ComputeFunction
from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.payloads import Encoding, encode_payload

VERSION_BYTES = 9
"""Length of the version field, the last of a reply: its tag and 8 bytes (never left out: no version is 0)."""

_VALUE_TAG = b"\x0a"


class ResultEncodingError(Exception):
    """A method gave a value that cannot be sent: the app's fault, not the client's."""


class Read:
    """One request for a value: the computed and the encoding.

    Attributes:
        function: the compute method.
        arguments: the canonical arguments.
        encoding: the encoding of the request and the reply.
    """

    __slots__ = ("_reply", "_version", "arguments", "encoding", "function", "is_visited", "size_bytes")

    def __init__(self, function: ComputeFunction, arguments: tuple[Any, ...], encoding: Encoding) -> None:
        self.function = function
        self.arguments = arguments
        self.encoding: Encoding = encoding
        self.is_visited = False
        self.size_bytes = 0
        self._version = 0
        self._reply = b""

    def lookup(self) -> Computed[Any]:
        """Return the computed as the graph has it now."""
        return self.function.lookup(self.arguments)

    def reply(self, node: Computed[Any]) -> bytes:
        """Return a serialized `CallReply` with the value of a computed that has one.

        The same bytes are an `Update`: the fields of both messages that are used here have the same numbers.

        Raises:
            ResultEncodingError: the value cannot be encoded.
        """
        version = node.version
        if version == self._version:
            return self._reply
        try:
            payload = encode_payload(self.function.method, node.value, self.encoding)
        except ResourceExhausted:
            raise
        except BaseException as error:
            reraise_outside(error)
            raise ResultEncodingError(f"{node.key} gave a value that cannot be sent: {in_words(error)}") from error
        self._reply = gateway_pb2.CallReply(value=payload, version=version).SerializeToString()
        self._version = version
        return self._reply


def update_content(update: bytes) -> bytes:
    """Return the part of a serialized `Update` that a watcher sees: all but the version, which only values have."""
    is_value = update.startswith(_VALUE_TAG)
    return update[:-VERSION_BYTES] if is_value else update


class ReadCache:
    """Recent reads, by the bytes of their request; bounded, the least useful are dropped first (the clock algorithm).

    Args:
        resolve: makes the read that a request asks for; raises the client's error if there is none.
        max_bytes: bound on the bytes of requests and replies together.
    """

    def __init__(self, resolve: Callable[[gateway_pb2.CallRequest], Read], *, max_bytes: int = 64 * 2**20) -> None:
        self._resolve = resolve
        self._max_bytes = max_bytes
        self._reads: dict[bytes, Read] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._reads)

    def read(self, request: bytes) -> Read:
        """Return the read that a serialized `CallRequest` asks for.

        Raises:
            FusionError: there is no such service or method, or the arguments are wrong.
        """
        read = self._reads.get(request)
        if read is None:
            try:
                message = gateway_pb2.CallRequest.FromString(request)
            except DecodeError as error:
                raise InvalidArgument("the request is not a CallRequest", field="request") from error
            read = self._resolve(message)
            self._keep(request, read)
        else:
            read.is_visited = True
        return read

    def reply(self, request: bytes, read: Read, node: Computed[Any]) -> bytes:
        """Return `read.reply(node)`, and account for its memory."""
        reply = read.reply(node)
        if read.size_bytes != (size_bytes := _entry_bytes(request, reply)) and self._reads.get(request) is read:
            self._size_bytes += size_bytes - read.size_bytes
            read.size_bytes = size_bytes
            self._trim()
        return reply

    def _keep(self, request: bytes, read: Read) -> None:
        read.size_bytes = _entry_bytes(request, b"")
        self._reads[request] = read
        self._size_bytes += read.size_bytes
        self._trim()

    def _trim(self) -> None:
        while self._size_bytes > self._max_bytes and self._reads:
            request = next(iter(self._reads))
            read = self._reads.pop(request)
            if read.is_visited:
                read.is_visited = False
                self._reads[request] = read
            else:
                self._size_bytes -= read.size_bytes


def _entry_bytes(request: bytes, reply: bytes) -> int:
    return 500 + len(request) + len(reply)
