"""The carrier inside one process, for tests and `LocalCluster`: delivers in later turns of the event loop, in order.

It can simulate faults. `hold` keeps what is sent to one end until `release`, like a process that was stopped. `cut`
ends both ends at once and loses the frames under way, like a reset connection.
"""

from __future__ import annotations

import asyncio
from collections import deque

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.link.carrier import Carrier

MAX_WAITING_FRAMES = 256
"""An end is writable while fewer frames than this wait at the other end."""


class MemoryCarrier(Carrier):
    """One end of a pair; see `memory_pair`.

    Attributes:
        other: the other end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.other: MemoryCarrier
        # Frames for the user of this end that wait for the next turn of the loop, or for `release`.
        self._inbox: deque[bytes] = deque()
        self._is_held = False
        self._is_scheduled = False
        self._is_closed = False
        self._has_told = False
        self._was_full = False

    @property
    def is_writable(self) -> bool:
        """Whether fewer than `MAX_WAITING_FRAMES` wait at the other end."""
        if len(self.other._inbox) < MAX_WAITING_FRAMES:
            return True
        self._was_full = True
        return False

    @property
    def is_closed(self) -> bool:
        """Whether the carrier is closed: frames neither come nor go any more."""
        return self._is_closed

    def send(self, frame: bytes) -> None:
        """Deliver a frame at the other end in the next turn of the loop."""
        if not self._is_closed and not self.other._is_closed:
            self.other._inbox.append(frame)
            self.other._schedule()

    def close(self) -> None:
        """Close both ends. The other end gets the frames sent before, unless it is held."""
        if not self._is_closed:
            self._is_closed = True
            self._inbox.clear()
            self._loop.call_soon(self._tell, None)
            self.other._schedule()

    def cut(self, error: Exception | None = None) -> None:
        """Lose the connection: both ends are notified, and frames under way are lost."""
        for end in (self, self.other):
            end._is_closed = True
            end._inbox.clear()
            self._loop.call_soon(end._tell, error or ConnectionResetError("the memory carrier was cut"))

    def hold(self) -> None:
        """Deliver nothing at this end for now."""
        self._is_held = True

    def release(self) -> None:
        """Deliver again, first the frames that were held."""
        self._is_held = False
        self._schedule()

    def pause_reading(self) -> None:
        """Deliver nothing at this end for now."""
        self.hold()

    def resume_reading(self) -> None:
        """Deliver again."""
        self.release()

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_held:
            self._is_scheduled = True
            self._loop.call_soon(self._deliver_inbox)

    def _deliver_inbox(self) -> None:
        self._is_scheduled = False
        while self._inbox and not self._is_held:
            frame = self._inbox.popleft()
            if len(frame) > self.max_frame_size:
                self._tell(RemoteProtocolError(f"a frame of {len(frame)} bytes is longer than {self.max_frame_size}"))
                self.close()
                return
            self.on_frame(frame)
        if self.other._was_full and len(self._inbox) < MAX_WAITING_FRAMES:
            self.other._was_full = False
            self.other.on_writable()
        if self.other._is_closed and not self._inbox and not self._is_held:
            self._is_closed = True
            self._tell(None)

    def _tell(self, error: Exception | None) -> None:
        if not self._has_told:
            self._has_told = True
            self.on_closed(error)


def memory_pair() -> tuple[MemoryCarrier, MemoryCarrier]:
    """Return the two ends of a new carrier, in the running event loop."""
    one, other = MemoryCarrier(), MemoryCarrier()
    one.other, other.other = other, one
    return one, other
