"""The gRPC carrier: sends frames of the session protocol as messages of one bidirectional stream; serves both ends.

gRPC allows one write at a time; awaiting the write is the backpressure. Frames that come meanwhile wait and leave
together in the next message: frames are protobuf messages, which merge by concatenation (repeated fields in order).
Frames that open or end a session, and pongs, are never merged with others.

Invariant: frames leave in the order of `send`, each once, and `on_closed` is called exactly once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import grpc

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.link.carrier import Carrier

MAX_MESSAGE_BYTES = 16 * 2**20 + 64 * 2**10
"""Both ends of the gateway's streams take messages up to this size: the largest frame and some slack."""

MERGED_BYTES = 64 * 2**10
"""Waiting frames are merged up to about this size."""

WRITABLE_BYTES = 2**20
"""A carrier is writable while fewer bytes than this wait."""

CLOSE_GRACE_S = 1.0
"""How long a closed carrier may take to send what waits."""

STREAM_ERRORS = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""The errors of reading from, or writing to, a stream that has ended."""

UNMERGED_FROM_CALLER = frozenset({0x0A})
"""First bytes of the frames that a caller must not merge: hello."""

UNMERGED_FROM_OWNER = frozenset({0x0A, 0x12, 0x3A, 0x42})
"""First bytes of the frames that an owner must not merge: challenge, welcome, pong, go_away.

A pong says what is held after the frames before it, and not after those behind it.
"""


class GrpcStreamCarrier(Carrier):
    """One end of a stream. The code that has opened the stream runs `read_from` and `write_to` until both return.

    Args:
        unmerged: first bytes of frames that travel alone.
    """

    def __init__(self, unmerged: frozenset[int]) -> None:
        super().__init__()
        self._unmerged = unmerged
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._was_full = False
        # Frames are not taken any more, in either direction; what waits is still sent.
        self._is_closing = False
        self._has_told = False
        self._wake: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[object] | None = None
        self._abort: asyncio.TimerHandle | None = None
        # Set while reading is paused.
        self._resumed: asyncio.Future[None] | None = None

    @property
    def is_writable(self) -> bool:
        """Whether fewer than `WRITABLE_BYTES` wait to be written."""
        if self._waiting_bytes < WRITABLE_BYTES:
            return True
        self._was_full = True
        return False

    def send(self, frame: bytes) -> None:
        """Queue a frame."""
        if not self._is_closing:
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)
            self._wake_writer()

    def close(self) -> None:
        """Send what waits, for `CLOSE_GRACE_S` at most, then end the stream. No further frame is delivered."""
        if not self._is_closing and self._writer is not None:
            self._abort = asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self._writer.cancel)
        self._is_closing = True
        self._wake_writer()
        self.resume_reading()

    def pause_reading(self) -> None:
        """Stop reading: gRPC's flow control makes the other end wait."""
        if self._resumed is None and not self._is_closing:
            self._resumed = asyncio.get_running_loop().create_future()

    def resume_reading(self) -> None:
        """Read again."""
        if self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None

    async def read_from(self, read: Callable[[], Awaitable[object]]) -> None:
        """Deliver the frames that `read` (of a gRPC call) returns, until the stream ends."""
        reason: Exception | None = None
        try:
            while not self._is_closing:
                if self._resumed is not None:
                    await self._resumed
                    continue
                frame = await read()
                if not isinstance(frame, bytes):  # EOF
                    break
                if len(frame) > self.max_frame_size:
                    reason = RemoteProtocolError(f"a frame of {len(frame)} bytes is longer than {self.max_frame_size}")
                    break
                if not self._is_closing:
                    self.on_frame(frame)
        except STREAM_ERRORS as error:
            reason = error
        finally:
            self._tell(reason)
            self.close()

    async def write_to(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Send frames with `write` (of a gRPC call) until the carrier is closed and all frames have left."""
        reason: Exception | None = None
        self._writer = asyncio.current_task()
        try:
            while True:
                if self._waiting:
                    await write(self._next_message())
                    if self._was_full and self._waiting_bytes < WRITABLE_BYTES:
                        self._was_full = False
                        self.on_writable()
                elif self._is_closing:
                    break
                else:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
        except STREAM_ERRORS as error:
            reason = error
        finally:
            self._writer = None
            if self._abort is not None:
                self._abort.cancel()
            self._waiting.clear()
            self._waiting_bytes = 0
            self._tell(reason)
            self.close()

    def _next_message(self) -> bytes:
        waiting = self._waiting
        first = waiting.popleft()
        self._waiting_bytes -= len(first)
        if not waiting or self._travels_alone(first):
            return first
        frames, size = [first], len(first)
        while waiting and size + len(waiting[0]) <= MERGED_BYTES and not self._travels_alone(waiting[0]):
            frame = waiting.popleft()
            frames.append(frame)
            size += len(frame)
        self._waiting_bytes -= size - len(first)
        return b"".join(frames)

    def _travels_alone(self, frame: bytes) -> bool:
        return bool(frame) and frame[0] in self._unmerged

    def _wake_writer(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _tell(self, reason: Exception | None) -> None:
        if not self._has_told:
            self._has_told = True
            self.on_closed(reason)
