"""Frames as bytes <-> frames as messages: an unparsable frame is the other end's error, a long frame is cut.

A frame is a batch, so a frame longer than `MAX_FRAME_SIZE` is sent as several, in the order of its entries.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from fusion_cluster.errors import LocalProtocolError, RemoteProtocolError
from fusion_cluster.protocol.limits import MAX_FRAME_SIZE
from fusion_cluster.v1.session_pb2 import ClientFrame, ServerFrame

_parse_client_frame = ClientFrame.FromString
_parse_server_frame = ServerFrame.FromString


def parse_client_frame(data: bytes) -> ClientFrame:
    """Parse a frame of the caller's end.

    Raises:
        RemoteProtocolError: the bytes are not such a frame.
    """
    try:
        return _parse_client_frame(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"{len(data)} bytes that are not a frame of the caller's end") from error


def parse_server_frame(data: bytes) -> ServerFrame:
    """Parse a frame of the owner's end.

    Raises:
        RemoteProtocolError: the bytes are not such a frame.
    """
    try:
        return _parse_server_frame(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"{len(data)} bytes that are not a frame of the owner's end") from error


def cut_client_frame(frame: ClientFrame, max_size: int = MAX_FRAME_SIZE) -> list[bytes]:
    """Return the frame as bytes, in as many pieces as its size needs: calls first, then the rest."""
    data = frame.SerializeToString()
    if len(data) <= max_size:
        return [data] if data else []
    pieces = [ClientFrame(invalidations=[request]) for request in frame.invalidations]
    pieces += [ClientFrame(calls=frame.calls[a:b]) for a, b in _ranges([c.ByteSize() for c in frame.calls], max_size)]
    del frame.calls[:]
    del frame.invalidations[:]
    return _serialized([*pieces, frame], max_size)


def cut_server_frame(frame: ServerFrame, max_size: int = MAX_FRAME_SIZE) -> list[bytes]:
    """Return the frame as bytes, in as many pieces as needed: results first, then invalidations and barriers."""
    data = frame.SerializeToString()
    if len(data) <= max_size:
        return [data] if data else []
    sizes = [result.ByteSize() for result in frame.results]
    pieces = [ServerFrame(results=frame.results[a:b]) for a, b in _ranges(sizes, max_size)]
    del frame.results[:]
    return _serialized([*pieces, frame], max_size)


def _serialized(frames: list[ClientFrame] | list[ServerFrame], max_size: int) -> list[bytes]:
    pieces = [data for frame in frames if (data := frame.SerializeToString())]
    longest = max(map(len, pieces))
    if longest > max_size:
        raise LocalProtocolError(f"one entry of a frame needs {longest} bytes, {max_size} are allowed")
    return pieces


def _ranges(sizes: list[int], max_size: int) -> Iterator[tuple[int, int]]:
    """Cut a row of entries into few consecutive ranges that fit a frame, each entry counted with its tag and length."""
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if total + size + 8 > max_size and index > start:
            yield start, index
            start, total = index, 0
        total += size + 8
    if start < len(sizes):
        yield start, len(sizes)
