"""The dispatcher's view of the outbox: the events that it has claimed, and its verdicts on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event that this host delivers.

    Attributes:
        position: its place among all.
        event_id: its id.
        type: the name of its class.
        key: its key, encoded.
        payload: the event in msgpack.
        attempts: how many attempts have failed.
        remaining: the handlers that have still to succeed; None: all there are.
        abandoned_by: the host whose claim of it has run out without a verdict; None: no host.
        baggage: the baggage that it carries, as `runtime.baggage.of_an_event` gives it.
    """

    position: int
    event_id: str
    type: str
    key: bytes
    payload: bytes
    attempts: int = 0
    remaining: tuple[str, ...] | None = None
    abandoned_by: str | None = None
    baggage: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on an event after an attempt that failed.

    Attributes:
        attempts: how many attempts have failed by now.
        due_at: when the next attempt is due; the present time if it is dead.
        is_dead: there is no next attempt.
        remaining: the handlers that have still to succeed; None: all there are.
        error: the errors, as text.
    """

    attempts: int
    due_at: float
    is_dead: bool
    remaining: tuple[str, ...] | None
    error: str


@dataclass(slots=True)
class Claimed:
    """The result of a search in the outbox.

    Attributes:
        events: the claimed events, each of another key.
        next_due_at: when the earliest other event is due, if that is before the horizon.
        is_more: more events may be due now.
    """

    events: list[ClaimedEvent] = field(default_factory=list)
    next_due_at: float | None = None
    is_more: bool = False


class Claims(Protocol):
    """The claims of one host in an outbox."""

    async def open(self, wake: Callable[[], None]) -> None:
        """Prepare the outbox, and call `wake` whenever this process has put something into it."""
        ...

    def close(self) -> None:
        """Stop calling `wake`."""
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
        """Claim events that are due: of each key the first.

        An event that another host has claimed and abandoned counts as failed once more: it may have crashed that host.

        Args:
            limit: how many at most.
            owned: a byte for each slot, 1 if it is owned here; None: all are.
            horizon_s: how far to look ahead for the event that is due next.
            judge: decides what becomes of abandoned events.
            besides: keys whose events are being delivered here; they are passed over.
        """
        ...

    async def succeeded(self, event: ClaimedEvent, *, wants_next: bool) -> ClaimedEvent | None:
        """Delete an event that was delivered; claim and return the next one of its key, if it is due and wanted."""
        ...

    async def failed(self, event: ClaimedEvent, verdict: Verdict) -> None:
        """Give an event back after an attempt that failed, unless another host has it by now."""
        ...

    async def renew(self, events: Iterable[ClaimedEvent]) -> set[int]:
        """Extend claims; return the positions of the events that are still held."""
        ...

    async def release(self, events: Iterable[ClaimedEvent]) -> None:
        """Give events back, as if their delivery had not begun."""
        ...

    async def trim(self, before: float) -> int:
        """Delete dead letters that died before that time; return how many there were."""
        ...
