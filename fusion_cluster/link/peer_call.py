"""One call on a link, as its caller sees it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, cast

from fusion_cluster.errors import NotOwner
from fusion_cluster.protocol.call import OutgoingCall
from fusion_cluster.protocol.events import Answered, Failed, MovedAway
from fusion_cluster.v1.session_pb2 import Result

logger = logging.getLogger(__name__)


class CallMaker(Protocol):
    """What a call is made on: a link."""

    create_future: Callable[[], asyncio.Future[Result]]
    """Makes a future of the link's event loop."""

    @property
    def owner_id(self) -> str:
        """Names the owner, once it has said so."""
        ...

    def probe(self, call: Any, probe: Any) -> None:
        """Send a probe along a call (see `protocol.edge_chasing`)."""
        ...

    def abandon(self, call: Any) -> None:
        """Give a call up that nobody waits for any more."""
        ...


class PeerCall(OutgoingCall, eq=False, kw_only=True):
    """Awaitable, once: gives the `Result`, whose error, if it has one, is left to the caller to decode.

    The result keeps the memory of its whole frame: take the value out of it and let it go. Cancelling the await
    gives the call up; the owner is told.

    Raises:
        ShardUnavailable: the owner could not be reached before the deadline, or the link is closed.
        DeadlineExceeded: it was reached, and did not answer in time.
        NotOwner: it does not own the key.
        CommandOutcomeUnknown: for a command that may or may not have run.
        HandshakeRefused: the owner's end refused us.

    Attributes:
        peer: the link it is made on.
        on_invalidated: called once with its id, when the read is out of date; None from then on.
        future: made when somebody waits; a call that is answered before needs none.
        error: what the await raises.
        latest: gives the deadline of those who wait for a read now; None: it stays what it was.
    """

    peer: CallMaker
    on_invalidated: Callable[[int], None] | None = None
    future: asyncio.Future[Result] | None = None
    error: Exception | None = None
    latest: Callable[[], float] | None = None

    def latest_deadline_s(self) -> float:
        """Return the deadline as it is now."""
        return self.deadline_s if self.latest is None else self.latest()

    def __await__(self) -> Generator[Any, None, Result]:
        if self.error is not None:
            raise self.error
        result = self.result
        if result is not None:
            self.result = None
            return result
        future = self.future = self.peer.create_future()
        try:
            answer: Result = yield from future
            return answer
        except asyncio.CancelledError:
            self.on_invalidated = None
            self.peer.abandon(self)
            raise

    def fail(self, error: Exception) -> None:
        """End without a result."""
        self.on_invalidated = None
        self.error = error
        future = self.future
        if future is not None and not future.done():
            future.set_exception(error)
            # Whoever asked may have lost interest: not worth a message in the log.
            future.exception()


# -- what a session's events mean to its calls; each session of a peer holds peer calls alone --------------------------
def deliver_results(event: Answered) -> None:
    """Results came: wake those who wait for them."""
    for call in cast("Sequence[PeerCall]", event.calls):
        future = call.future
        if future is not None:
            if not future.done():
                future.set_result(cast(Result, call.result))
            call.result = None


def report_outdated(calls: deque[PeerCall]) -> None:
    """Reads are out of date: tell those who use them. The queue is empty then, also if one of those comes back here."""
    while calls:
        call = calls.popleft()
        on_invalidated = call.on_invalidated
        if on_invalidated is not None:
            call.on_invalidated = None
            try:
                on_invalidated(call.id)
            except Exception:
                logger.exception("an on_invalidated callback of a read raised")


def fail_moved(event: MovedAway) -> None:
    """Calls went to the wrong owner."""
    for call in cast("Sequence[PeerCall]", event.calls):
        call.fail(NotOwner("the key moved to another shard", slot_map_version=call.slot_map_version))


def fail_calls(event: Failed) -> None:
    """Calls have ended without a result: one exception for each, for it collects the traceback of whoever raises it."""
    error = event.error
    for call in cast("Sequence[PeerCall]", event.calls):
        call.fail(type(error)(error.message, retry_after_s=error.retry_after_s))
