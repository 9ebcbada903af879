"""Frames on a byte stream: each is preceded by its length, 4 bytes, big-endian.

Invariant of `FrameReader`: its buffer never holds a complete frame after `feed`, and never more than one frame of the
size allowed.
"""

from __future__ import annotations

from struct import Struct

from fusion_cluster.errors import LocalProtocolError, RemoteProtocolError
from fusion_cluster.protocol.limits import MAX_FRAME_SIZE

_LENGTH = Struct(">I")


def with_length(frame: bytes) -> bytes:
    """Return the frame with its length in front, as it goes onto a byte stream."""
    size = len(frame)
    if size > MAX_FRAME_SIZE:
        raise LocalProtocolError(f"a frame of {size} bytes is longer than {MAX_FRAME_SIZE}")
    return _LENGTH.pack(size) + frame


class FrameReader:
    """Cuts a byte stream into frames.

    Attributes:
        max_frame_size: a longer frame is a protocol error, noticed as soon as its length is known.
    """

    __slots__ = ("_buffer", "max_frame_size")

    def __init__(self, max_frame_size: int = MAX_FRAME_SIZE) -> None:
        self.max_frame_size = max_frame_size
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes from the stream; return the frames that they complete.

        Raises:
            RemoteProtocolError: the stream announces a frame that is too long. The stream is useless from then on.
        """
        buffer = self._buffer
        if not buffer and len(data) >= 4:
            (size,) = _LENGTH.unpack_from(data)
            if size + 4 == len(data) and size <= self.max_frame_size:
                return [data[4:]]
        buffer += data
        frames: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= 4:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > self.max_frame_size:
                raise RemoteProtocolError(f"a frame of {size} bytes is longer than {self.max_frame_size}")
            if end - start - 4 < size:
                break
            frames.append(bytes(memoryview(buffer)[start + 4 : start + 4 + size]))
            start += 4 + size
        if start:
            del buffer[:start]
        return frames

    def end(self) -> None:
        """Note that the stream has ended.

        Raises:
            RemoteProtocolError: it ended in the middle of a frame.
        """
        if self._buffer:
            raise RemoteProtocolError(f"the stream ended {len(self._buffer)} bytes into a frame")
