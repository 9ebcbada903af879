"""What the owner's end of a session holds, as the caller's end counts it: the check that both hold the same reads.

The owner's end sends a digest with each pong: how many reads it holds subscriptions of, the sum of their ids and the
sum of the squares. An id names one result, with one version, so ids are enough. All three are kept with an addition for
each change, and the order does not matter. If each end lacks no more than two reads that the other one has, and one
lacks any, the digests differ; beyond that they differ but for a rare chance.

Frames in flight make no difference, because the caller's end counts what the owner's end held when it wrote the pong:
all that came before it is applied, and a read that was given up is counted until the pong says that
the owner's end has heard of it. For this, each frame that gives reads up has a number, and each ping repeats the last:
if one of these frames is lost, the read is counted no more although it is held, and the digests differ.

Invariant: the digest here is that of the reads that are answered, plus `_departed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from fusion_cluster.v1.session_pb2 import Holdings

MASK: Final = 2**64 - 1
"""Sums travel modulo 2^64."""


class CallerHoldings:
    """The digest of one session at the caller's end.

    Attributes:
        number: of the last frame that gave reads up.
        count: how many reads are counted.
        sum: of their ids.
        sum_of_squares: of the squares of their ids.
    """

    __slots__ = ("_batches", "_cancelled", "_departed", "count", "number", "sum", "sum_of_squares")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self.sum_of_squares = 0
        self.number = 0
        # Reads that were given up here, and that the owner's end holds until it hears of it.
        self._departed: set[int] = set()
        # Reads that were cancelled before their results came, and are not counted: the results may be on their way.
        self._cancelled: set[int] = set()
        # The frames that gave reads up, and that the owner's end may not have: their numbers, and the ids in them.
        self._batches: deque[tuple[int, Sequence[int]]] = deque()

    def add(self, call_id: int) -> None:
        """Count a read."""
        self.count += 1
        self.sum += call_id
        self.sum_of_squares += call_id * call_id

    def remove(self, call_id: int) -> None:
        """Count a read no more: the owner's end does not hold it."""
        self.count -= 1
        self.sum -= call_id
        self.sum_of_squares -= call_id * call_id

    # -- reads that are given up here ---------------------------------------------------------------------------------
    def depart(self, ids: Iterable[int]) -> None:
        """Note that answered reads are given up."""
        self._departed.update(ids)

    def cancel(self, call_id: int) -> None:
        """Note that a read was cancelled before its result came."""
        self._cancelled.add(call_id)

    def come_late(self, call_id: int) -> None:
        """Note the result of a call that nobody waits for any more."""
        if call_id in self._cancelled:
            self._cancelled.remove(call_id)
            self.come_unwanted(call_id)

    def come_unwanted(self, call_id: int) -> None:
        """Note a subscribed result that is given up at once."""
        self.add(call_id)
        self._departed.add(call_id)

    def outdate(self, call_id: int) -> None:
        """Note that the owner's end has reported a read that was given up here."""
        self._cancelled.discard(call_id)
        if call_id in self._departed:
            self._departed.remove(call_id)
            self.remove(call_id)

    # -- frames -------------------------------------------------------------------------------------------------------
    def send(self, ids: Sequence[int]) -> int:
        """Return the number of the frame that gives these reads up."""
        self.number += 1
        self._batches.append((self.number, ids))
        return self.number

    def hear(self, number: int) -> None:
        """Note that the owner's end has the frames up to this number."""
        batches = self._batches
        while batches and batches[0][0] <= number:
            for call_id in batches.popleft()[1]:
                self.outdate(call_id)

    def detach(self) -> list[int]:
        """Note that the carrier is gone; return the reads that have to be given up again over the next one."""
        ids = dict.fromkeys(call_id for _, batch in self._batches for call_id in batch)
        self._batches.clear()
        return list(ids)

    def clear(self) -> None:
        """Begin a new session, of which the owner's end holds nothing."""
        self.count = self.sum = self.sum_of_squares = self.number = 0
        self._departed.clear()
        self._cancelled.clear()
        self._batches.clear()

    # -- the check ----------------------------------------------------------------------------------------------------
    def agree(self, holdings: Holdings) -> bool:
        """Whether the owner's end holds what is counted here."""
        return (
            holdings.count == self.count
            and holdings.sum == self.sum & MASK
            and holdings.sum_of_squares == self.sum_of_squares & MASK
        )

    def unknown(self, ids: Iterable[int], answered: Iterable[int]) -> list[int]:
        """Take the ids that the owner's end holds; return those that are not counted here, in order.

        Counts those, as given up, and no more those that the owner's end does not hold.
        """
        held = set(ids)
        known = self._departed.union(answered)
        for call_id in known - held:
            self.remove(call_id)
        self._departed &= held
        unknown = sorted(held - known)
        for call_id in unknown:
            self.come_unwanted(call_id)
        return unknown
