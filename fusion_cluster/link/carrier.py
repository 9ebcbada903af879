"""A carrier: takes whole frames from one end of a session to the other, in order, until it ends.

Invariant: `on_closed` is called exactly once, and no frame is delivered after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from fusion_cluster.protocol.limits import MAX_FRAME_SIZE


def _ignore() -> None:
    pass


class Carrier(ABC):
    """One end of a carrier. Subclasses add the transport. They call the three callbacks, and `send` never raises.

    Attributes:
        on_frame: called with each frame that arrives.
        on_closed: called once, with the reason or None, when the carrier has ended, by whichever end. With a
            `RemoteProtocolError`, a last frame may still be sent from inside the call.
        on_writable: called when `is_writable` has become true again.
        max_frame_size: a longer frame that arrives ends the carrier with a `RemoteProtocolError`.
    """

    def __init__(self) -> None:
        # What arrives before the carrier has a user; `start` delivers it.
        self._early: list[Callable[[], None]] = []
        self.on_frame: Callable[[bytes], None] = self._keep_frame
        self.on_closed: Callable[[Exception | None], None] = self._keep_closed
        self.on_writable: Callable[[], None] = _ignore
        self.max_frame_size = MAX_FRAME_SIZE

    def start(
        self,
        *,
        on_frame: Callable[[bytes], None],
        on_closed: Callable[[Exception | None], None],
        on_writable: Callable[[], None] = _ignore,
    ) -> None:
        """Hand the carrier to its user, or to its next user. Frames that have come before are delivered now."""
        self.on_frame = on_frame
        self.on_closed = on_closed
        self.on_writable = on_writable
        early, self._early = self._early, []
        for deliver in early:
            deliver()

    @property
    @abstractmethod
    def is_writable(self) -> bool:
        """Whether frames should be sent now; otherwise they would pile up here."""

    @abstractmethod
    def send(self, frame: bytes) -> None:
        """Send one frame. Does nothing once the carrier is closed."""

    @abstractmethod
    def close(self) -> None:
        """Send what waits, then end the carrier. May be called again."""

    def pause_reading(self) -> None:  # noqa: B027 - a carrier may be unable to
        """Stop taking frames for now, so that the other end has to wait. A carrier that cannot do that ignores it."""

    def resume_reading(self) -> None:  # noqa: B027 - see pause_reading
        """Take frames again."""

    def _keep_frame(self, frame: bytes) -> None:
        self._early.append(partial(self._deliver, frame))

    def _deliver(self, frame: bytes) -> None:
        self.on_frame(frame)

    def _keep_closed(self, error: Exception | None) -> None:
        self._early.append(lambda: self.on_closed(error))
