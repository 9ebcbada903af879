"""One call on a link, as its caller sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from fusion_cluster.protocol.call import CallKind, OutgoingCall
from fusion_cluster.v1.session_pb2 import Result

if TYPE_CHECKING:
    from fusion_cluster.link.peer import Peer


class PeerCall(OutgoingCall):
    """Awaitable, once: gives the `Result`, whose error, if it has one, is left to the caller to decode.

    The result keeps the memory of its whole frame: take the value out of it and let it go. Cancelling the await
    gives the call up; the owner is told.

    Raises:
        ShardUnavailable: the owner could not be reached before the deadline, or the link is closed.
        DeadlineExceeded: it was reached, and did not answer in time.
        NotOwner: it does not own the key.
        CommandOutcomeUnknown: for a command that may or may not have run.
        HandshakeRefused: the owner's end refused us.
    """

    __slots__ = ("_error", "_peer", "future", "on_invalidated")

    def __init__(
        self,
        peer: Peer,
        kind: CallKind,
        method: str,
        arguments: bytes,
        deadline_s: float,
        on_invalidated: Callable[[int], None] | None,
        path: Sequence[str] = (),
    ) -> None:
        super().__init__(kind, method, arguments, deadline_s, path)
        self._peer = peer
        self._error: Exception | None = None
        self.on_invalidated = on_invalidated
        # Made when somebody waits; a call that is answered before needs none.
        self.future: asyncio.Future[Result] | None = None

    def __await__(self) -> Generator[Any, None, Result]:
        if self._error is not None:
            raise self._error
        result = self.result
        if result is not None:
            self.result = None
            return result
        future = self.future = self._peer.create_future()
        try:
            answer: Result = yield from future
            return answer
        except asyncio.CancelledError:
            self.on_invalidated = None
            self._peer.abandon(self)
            raise

    def fail(self, error: Exception) -> None:
        """End without a result."""
        self.on_invalidated = None
        self._error = error
        future = self.future
        if future is not None and not future.done():
            future.set_exception(error)
            # Whoever asked may have lost interest: not worth a message in the log.
            future.exception()
