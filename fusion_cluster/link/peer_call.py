"""One call on a link, as its caller sees it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, cast

from fusion_cluster.errors import NotOwner
from fusion_cluster.protocol.call import OutdatedBy, OutgoingCall
from fusion_cluster.protocol.events import Answered, Failed, MovedAway
from fusion_cluster.v1.session_pb2 import Result

logger = logging.getLogger(__name__)


class CallMaker(Protocol):
    """A link, on which calls are made."""

    create_future: Callable[[], asyncio.Future[Result]]
    """Makes a future of the link's event loop."""

    @property
    def owner_id(self) -> str:
        """The owner's peer id; "" before the first connection."""
        ...

    def probe(self, call: Any, probe: Any) -> None:
        """Send a probe along a call (see `protocol.edge_chasing`)."""
        ...

    def abandon(self, call: Any) -> None:
        """Give up a call whose caller has stopped waiting."""
        ...


class PeerCall(OutgoingCall, eq=False, kw_only=True):
    """A call that can be awaited once: it gives the `Result`; the caller decodes the error in it, if there is one.

    The result keeps its whole frame in memory: take the value out and drop the result. Cancelling the await gives up
    the call and notifies the owner.

    Raises:
        ShardUnavailable: the owner could not be reached before the deadline, or the link is closed.
        DeadlineExceeded: the owner was reached, and did not answer in time.
        NotOwner: it does not own the key.
        CommandOutcomeUnknown: a command may or may not have run.
        HandshakeRefused: the owner refused this process.

    Attributes:
        peer: the link on which the call is made.
        on_invalidated: called once with the call's id, when the read is out of date; None from then on.
        future: made when a caller waits; a call that is answered before that does not need a future.
        error: the error that the await raises.
        subject: what the result of a read is put into; set by its user, who finds it in `Peer.answered`.
        latest: returns the deadline of those who wait for a read now; None: the deadline does not change.
    """

    peer: CallMaker
    on_invalidated: Callable[[int], None] | None = None
    future: asyncio.Future[Result] | None = None
    error: Exception | None = None
    subject: Any = None
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

    def give_up_doubted(self) -> None:
        """Report the read as out of date: its result is wanted, and the connection to its owner is lost."""
        on_invalidated = self.on_invalidated
        if on_invalidated is not None:
            self.on_invalidated = None
            self.outdated_by = OutdatedBy.CARRIER
            on_invalidated(self.id)

    def fail(self, error: Exception) -> None:
        """End without a result."""
        self.on_invalidated = None
        self.error = error
        future = self.future
        if future is not None and not future.done():
            future.set_exception(error)
            # The caller may have stopped waiting; asyncio must not log that the error was never retrieved.
            future.exception()


# -- the effects of a session's events on its calls; a peer's session holds only peer calls ----------------------------
def deliver_results(event: Answered) -> None:
    """Give results to the calls that wait for them."""
    call: Any  # a PeerCall; this is the hot path, so it is not said by `cast`
    for call in event.calls:
        future = call.future
        if future is not None:
            if not future.done():
                future.set_result(call.result)
            call.result = None


def report_outdated(calls: deque[PeerCall]) -> None:
    """Notify the users of reads that are out of date. Empties the queue, also if a callback calls this again."""
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
    """Fail calls that went to the wrong owner."""
    for call in cast("Sequence[PeerCall]", event.calls):
        call.fail(NotOwner("the key moved to another shard", slot_map_version=call.slot_map_version))


def fail_calls(event: Failed) -> None:
    """Fail calls that ended without a result. Each gets its own exception, which collects its caller's traceback."""
    error = event.error
    for call in cast("Sequence[PeerCall]", event.calls):
        call.fail(type(error)(error.message, retry_after_s=error.retry_after_s))
