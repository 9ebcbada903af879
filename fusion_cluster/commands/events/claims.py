"""What a dispatcher knows of the outbox: the events that it has claimed, and what it says of them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event that this host delivers.

    Attributes:
        position: its place among all.
        event_id: names it.
        type: the name of its class.
        key: encoded.
        payload: the event in msgpack.
        attempts: how many have failed.
        remaining: the handlers that have still to succeed; None: all there are.
        abandoned_by: the host that was delivering it when it was heard for the last time; None: nobody was.
    """

    position: int
    event_id: str
    type: str
    key: bytes
    payload: bytes
    attempts: int = 0
    remaining: tuple[str, ...] | None = None
    abandoned_by: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an event after an attempt that failed.

    Attributes:
        attempts: how many have failed by now.
        due_at: when the next attempt is due; now, if it is dead.
        is_dead: there is no next attempt.
        remaining: the handlers that have still to succeed; None: all there are.
        error: what went wrong, in words.
    """

    attempts: int
    due_at: float
    is_dead: bool
    remaining: tuple[str, ...] | None
    error: str


@dataclass(slots=True)
class Claimed:
    """What a look at the outbox has given.

    Attributes:
        events: claimed, each of another key.
        next_due_at: when the earliest of the others is due, if that is before the horizon.
        is_more: there may be more that are due now.
    """

    events: list[ClaimedEvent] = field(default_factory=list)
    next_due_at: float | None = None
    is_more: bool = False


class Claims(Protocol):
    """The claims of one host in an outbox."""

    async def open(self, wake: Callable[[], None]) -> None:
        """See that there is an outbox, and call `wake` whenever this process has put something into it."""
        ...

    def close(self) -> None:
        """Call it no more."""
        ...

    async def claim(
        self,
        limit: int,
        *,
        owned: bytes | None,
        horizon_s: float,
        judge: Callable[[ClaimedEvent], Verdict],
        besides: Collection[bytes],
    ) -> Claimed:
        """Claim events that are due, the first of their keys each.

        Those that another host has claimed and abandoned have failed once more: they might be what has ended it.

        Args:
            limit: how many at most.
            owned: a byte for each slot, 1 where it is owned here; None: all are.
            horizon_s: how far to look ahead for what is due next.
            judge: tells what becomes of those that were abandoned.
            besides: keys of which events are being delivered here: they are passed over.
        """
        ...

    async def succeeded(self, event: ClaimedEvent, *, wants_next: bool) -> ClaimedEvent | None:
        """Delete an event that was delivered; claims and returns the next one of its key, if it is due and wanted."""
        ...

    async def failed(self, event: ClaimedEvent, verdict: Verdict) -> None:
        """Give an event back after an attempt that failed, unless another host has it by now."""
        ...

    async def renew(self, events: Iterable[ClaimedEvent]) -> set[int]:
        """Hold on to claims for longer; returns the positions of those that are still held."""
        ...

    async def release(self, events: Iterable[ClaimedEvent]) -> None:
        """Give events back, as if nobody had begun to deliver them."""
        ...

    async def trim(self, before: float) -> int:
        """Delete dead letters that died before then; returns how many there were."""
        ...
