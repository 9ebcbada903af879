"""The read lease at the caller's end: until when its replicas may be served without hearing from the owner.

It counts from the moment at which the ping that the owner answered left here: the owner heard us after that, and waits
a whole lease from then on before it completes a change without us. So a frame that was long on its way extends nothing.
"""

from __future__ import annotations

from typing import Final

from fusion_cluster.protocol.limits import LEASE_DRIFT_MARGIN
from fusion_cluster.quantities import as_number

_INFINITY: Final = float("inf")
_HELLO: Final = 0
"""Takes the place of a ping's sequence number: the Welcome answers it."""

SHORTEST_LEASE_S: Final = 0.001
LONGEST_LEASE_S: Final = 86_400.0
"""The longest lease, which travels in milliseconds. A command may wait a whole lease for a peer that is cut off."""

DOUBT_PART: Final = 4
"""Replicas wait this part of a read lease for their session to be resumed. It is less than the time between two pings:
while an end is in doubt it answers no ping, and its own callers must not lose their leases by that."""


def as_read_lease(read_lease_s: object) -> float:
    """Return the length of a read lease.

    Raises:
        InvalidArgument: it is not a number of seconds, or too short or too long for a lease.
    """
    wanted = f"a number of seconds from {SHORTEST_LEASE_S} to {LONGEST_LEASE_S:.0f}"
    return as_number("read_lease_s", read_lease_s, wanted, least=SHORTEST_LEASE_S, most=LONGEST_LEASE_S)


class ReadLease:
    """The read lease on the results of one owner.

    Attributes:
        until_s: when it runs out; minus infinity while there is none.
        ping_due_s: when the next ping should leave; infinite unless a session is open.
    """

    __slots__ = ("_heard_at_s", "_length_s", "_pings", "_sequence", "ping_due_s", "until_s")

    def __init__(self) -> None:
        self.until_s = -_INFINITY
        self.ping_due_s = _INFINITY
        self._length_s = 0.0
        self._heard_at_s = -_INFINITY
        self._sequence = 0
        # Sequence number of each ping in flight -> when it left.
        self._pings: dict[int, float] = {}

    def hear(self, now_s: float) -> None:
        """Note that a frame or a carrier came."""
        self._heard_at_s = now_s

    def hello_sent(self, now_s: float) -> None:
        """Note that the Hello leaves now."""
        self._pings[_HELLO] = now_s

    def begin(self, length_s: float) -> None:
        """Note that the Welcome came, and granted a lease of this length."""
        self._length_s = length_s * (1 - LEASE_DRIFT_MARGIN)
        sent_at_s = self._pings.pop(_HELLO)
        self.until_s = sent_at_s + self._length_s
        self.ping_due_s = sent_at_s + self._length_s / 3

    def ping(self, now_s: float) -> int:
        """Note that a ping leaves now; return its sequence number."""
        self._sequence += 1
        self._pings[self._sequence] = now_s
        self.ping_due_s = now_s + self._length_s / 3
        return self._sequence

    def renew(self, sequence: int) -> None:
        """Note that a pong came."""
        sent_at_s = self._pings.pop(sequence, None)
        if sent_at_s is None:
            return
        self.until_s = max(self.until_s, sent_at_s + self._length_s)
        for older in [other for other in self._pings if other < sequence]:
            del self._pings[older]

    def end(self) -> None:
        """Note that the carrier is gone."""
        self.until_s = -_INFINITY
        self.ping_due_s = _INFINITY
        self._pings.clear()

    def ping_soon(self) -> None:
        """Let a ping leave with the next frame."""
        self.ping_due_s = -_INFINITY

    def doubt_until_s(self, now_s: float) -> float:
        """Return until when replicas may wait for a new carrier, if this one is gone now."""
        return min(self.until_s, now_s + self._length_s / DOUBT_PART)

    def is_silent(self, now_s: float) -> bool:
        """Whether nothing at all was heard for a whole lease."""
        return now_s - self._heard_at_s > self._length_s

    def was_heard_lately(self, now_s: float) -> bool:
        """Whether the owner was heard within the last half of a lease."""
        return now_s - self._heard_at_s < self._length_s / 2
