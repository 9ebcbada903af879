"""Barrier marks at the caller's end: each mark is answered once, over the carrier that brought it.

A mark whose answer may have been lost with a carrier comes again over the next one. Its first copy is void: an answer
to it does not count, since there is more to settle by the time the second one comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fusion_cluster.v1.session_pb2 import ClientFrame


class BarrierMarks:
    """The marks of one session that wait for an answer, and the answers that wait to be sent."""

    __slots__ = ("_joined", "_open", "_settled", "_void")

    def __init__(self) -> None:
        # Barrier -> marks that came over the present carrier, and over earlier ones.
        self._open: Counter[int] = Counter()
        self._void: Counter[int] = Counter()
        self._settled: list[int] = []
        self._joined: list[int] = []

    def come(self, barriers: Iterable[int]) -> None:
        """Marks came."""
        self._open.update(barriers)

    def settle(self, barrier: int, *, confirms: bool) -> bool:
        """Answer one mark; return False if there is nothing to send for it."""
        if _take_one(self._void, barrier) or not _take_one(self._open, barrier):
            return False
        (self._settled if confirms else self._joined).append(barrier)
        return True

    def write(self, frame: ClientFrame) -> None:
        """Put the answers that wait into a frame."""
        if self._settled:
            frame.settled_barriers.extend(self._settled)
            self._settled = []
        if self._joined:
            frame.joined_barriers.extend(self._joined)
            self._joined = []

    def detach(self) -> None:
        """Drop every mark and answer: the carrier is gone."""
        self._settled.clear()
        self._joined.clear()
        self._void += self._open
        self._open.clear()


def _take_one(marks: Counter[int], barrier: int) -> bool:
    count = marks[barrier]
    if count > 1:
        marks[barrier] = count - 1
    elif count:
        del marks[barrier]
    return count > 0
