"""The owner's end of one session, over one carrier after another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final, Protocol

from fusion_cluster.errors import ProtocolError
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.protocol.edge_chasing import Probe
from fusion_cluster.protocol.events import (
    BarrierAnswered,
    Called,
    Cancelled,
    InvalidationRequested,
    Left,
    OwnerEvent,
    Probed,
    Unsubscribed,
)
from fusion_cluster.protocol.limits import SessionLimits
from fusion_cluster.protocol.owner import OwnerSession
from fusion_cluster.protocol.states import OwnerLink
from fusion_cluster.v1.session_pb2 import Call, Error, GoAway, Invalidate, ServerFrame

logger = logging.getLogger(__name__)

_LOST: Final = OwnerLink.LOST

# google.rpc.Code
_INVALID_ARGUMENT: Final = 3
_INTERNAL: Final = 13
_UNAVAILABLE: Final = 14


def _always() -> bool:
    return True


def go_away_frame(error: Error | None) -> bytes:
    """Return the last frame to a caller; with an error, its session is refused or has ended."""
    return ServerFrame(go_away=GoAway(error=error)).SerializeToString()


class SessionHandler(Protocol):
    """Answers the calls of sessions. The callbacks are synchronous. One that raises ends the session."""

    @property
    def epoch(self) -> int:
        """The incarnation of this process."""
        ...

    @property
    def slot_map_version(self) -> int:
        """The version of the slot map known here."""
        ...

    def on_session(self, session: ServedSession) -> None:
        """Note a new session."""
        ...

    def on_calls(self, session: ServedSession, calls: Sequence[Call]) -> None:
        """Answer reads and commands, each once, now or later. It runs in an empty context."""
        ...

    def on_cancelled(self, session: ServedSession, ids: Sequence[int]) -> None:
        """Cancel calls whose callers have left. Some may have been answered in this turn of the loop."""
        ...

    def on_unsubscribed(self, session: ServedSession, ids: Sequence[int]) -> None:
        """End the subscriptions of reads whose replicas are gone. Some may have been invalidated in this turn."""
        ...

    def on_invalidate(self, session: ServedSession, request: Invalidate) -> None:
        """Invalidate keys; answer with `send_result` or `send_error`."""
        ...

    def on_barrier_answered(self, session: ServedSession, barrier: int, confirms: bool) -> None:
        """Take the answer to one `send_barrier`.

        Args:
            session: the session that answers.
            barrier: the number that was sent.
            confirms: all that was sent before it is settled there and below, not only for this barrier.
        """
        ...

    def on_probe(self, session: ServedSession, call_id: int, probe: Probe) -> None:
        """Take a probe that came along an unanswered read: it asks whether that read waits for itself."""
        ...

    def on_session_lost(self, session: ServedSession) -> None:
        """Forget a session: it has ended, cannot be resumed, and its calls and subscriptions are void."""
        ...


class ServedSession:
    """One session, as its handler sees it. `SessionAcceptor` makes it.

    Everything that is sent in one turn of the event loop leaves in one frame. While the session has no carrier, or its
    carrier is not writable, the output waits here. It is bounded, because calls in flight and subscriptions are.

    Attributes:
        peer_id: names the caller.
        has_left: the caller has ended the session in good order: it does not serve anything any more that it read here.
        resume_token: known to the caller, who resumes the session with it.
        detached_at_s: when the carrier was lost.
        before_sending: called before output leaves; what it invalidates leaves in the same frame. After each pong the
            caller serves what it has read here for one more read lease. So this end must not answer a ping while it
            holds something that it may not serve itself.
        is_sure: tells whether this end may serve all that it has read from others; pings wait as long as it may not.
        send_result: `OwnerSession.send_result`.
        send_error: `OwnerSession.send_error`.
        send_moved: `OwnerSession.send_moved`.
        send_varies: `OwnerSession.send_varies`.
        send_invalidated: `OwnerSession.send_invalidated`.
        send_barrier: `OwnerSession.send_barrier`.
    """

    def __init__(
        self,
        handler: SessionHandler,
        *,
        peer_id: str,
        resume_token: bytes,
        limits: SessionLimits,
        clock: Callable[[], float],
        on_lost: Callable[[ServedSession], None],
        on_detached: Callable[[ServedSession], None],
        on_carrier_ended: Callable[[Carrier], None],
    ) -> None:
        self.peer_id = peer_id
        self.has_left = False
        self.resume_token = resume_token
        self.detached_at_s = clock()
        self.before_sending: Callable[[], object] | None = None
        self.is_sure: Callable[[], bool] = _always
        self._handler = handler
        self._clock = clock
        self._on_lost = on_lost
        self._on_detached = on_detached
        self._on_carrier_ended = on_carrier_ended
        self._handlers: dict[type[OwnerEvent], Callable[[Any], None]] = {
            Cancelled: lambda event: handler.on_cancelled(self, event.ids),
            Unsubscribed: lambda event: handler.on_unsubscribed(self, event.ids),
            InvalidationRequested: lambda event: handler.on_invalidate(self, event.request),
            BarrierAnswered: lambda event: handler.on_barrier_answered(self, event.barrier, event.confirms),
            Probed: lambda event: handler.on_probe(self, event.call_id, event.probe),
            Left: self._on_left,
        }
        self._loop = asyncio.get_running_loop()
        self._carrier: Carrier | None = None
        self._is_reading_paused = False
        # While a frame is handled, the output that it causes waits until that is done.
        self._is_receiving = False
        self._core = OwnerSession(peer_id=peer_id, limits=limits, on_output=self._schedule_flush, now_s=clock())
        # The hot path: no call in between.
        self.send_result = self._core.send_result
        self.send_error = self._core.send_error
        self.send_moved = self._core.send_moved
        self.send_varies = self._core.send_varies
        self.send_invalidated = self._core.send_invalidated
        self.send_barrier = self._core.send_barrier

    # -- state --------------------------------------------------------------------------------------------------------
    @property
    def is_attached(self) -> bool:
        """Whether the session has a carrier."""
        return self._core.state is OwnerLink.ATTACHED

    @property
    def is_lost(self) -> bool:
        """Whether the session has ended."""
        return self._core.state is OwnerLink.LOST

    @property
    def heard_s_ago(self) -> float:
        """Seconds since the last frame from the caller. Its read lease began no later than then."""
        return self._clock() - self._core.heard_at_s

    @property
    def subscription_count(self) -> int:
        """The number of reads that are answered and subscribed."""
        return self._core.subscription_count

    @property
    def in_flight_count(self) -> int:
        """The number of running calls and of commands' results that the caller has not confirmed."""
        return self._core.in_flight_count

    # -- ends ---------------------------------------------------------------------------------------------------------
    def close(self, reason: str) -> None:
        """Leave: send what is ready and a GoAway, then end the session. The caller may dial for a new session."""
        logger.debug("the session of %s is closed: %s", self.peer_id, reason)
        self._flush()
        self._end(go_away_frame(None))

    def _on_left(self, event: Left) -> None:
        self.has_left = True
        self.close("its caller has left")

    def drop(self) -> None:
        """End the session for good: its resume token is void, and its caller must open a new session."""
        self._end(go_away_frame(Error(code=_UNAVAILABLE, message="the session was dropped", transient=True)))

    def detach(self) -> None:
        """Drop the carrier; the session can be resumed."""
        carrier, self._carrier = self._carrier, None
        if carrier is None:
            return
        carrier.close()
        self.detached_at_s = self._clock()
        self._core.detach()
        self._on_detached(self)

    def _end(self, last_frame: bytes) -> None:
        if self.is_lost:
            return
        carrier, self._carrier = self._carrier, None
        self._core.lose()
        if carrier is not None:
            carrier.send(last_frame)
            carrier.close()
        self._on_lost(self)
        try:
            self._handler.on_session_lost(self)
        except Exception:
            logger.exception("on_session_lost raised")

    def answer_pings(self) -> None:
        """Answer the ping that has waited until this end `is_sure`, if there is one."""
        self._core.answer_pings()

    # -- the carrier --------------------------------------------------------------------------------------------------
    def attach(self, carrier: Carrier, welcome: bytes, *, is_new: bool) -> None:
        """Continue over this carrier, whose caller has proved its identity. `SessionAcceptor` calls it."""
        self.detach()
        carrier.send(welcome)
        self._carrier = carrier
        self._is_reading_paused = False
        self._core.attach(self._clock())
        if is_new:
            try:
                self._handler.on_session(self)
            except Exception:
                logger.exception("on_session raised")
                self._end(go_away_frame(Error(code=_INTERNAL, message="internal error", transient=True)))
        carrier.start(
            on_frame=partial(self._on_frame, carrier),
            on_closed=partial(self._on_closed, carrier),
            on_writable=self._on_writable,
        )

    def _on_frame(self, carrier: Carrier, frame: bytes) -> None:
        if carrier is not self._carrier:
            return
        core = self._core
        self._is_receiving = True
        try:
            events = core.receive(frame, self._clock())
        except ProtocolError as error:
            self._on_violation(error)
        else:
            self._handle(events)
        finally:
            self._is_receiving = False
        if not core.has_output:
            return
        if core.running_count:
            # Some calls may be answered in this turn of the loop: wait for them.
            self._loop.call_soon(self._flush)
        else:
            self._flush()

    def _on_violation(self, error: ProtocolError) -> None:
        logger.warning("a protocol error of %s: %s", self.peer_id, error)
        self._end(go_away_frame(Error(code=_INVALID_ARGUMENT, type="RemoteProtocolError", message=str(error))))

    def _on_closed(self, carrier: Carrier, error: Exception | None) -> None:
        self._on_carrier_ended(carrier)
        if carrier is not self._carrier:
            return
        if isinstance(error, ProtocolError):
            self._on_violation(error)
        else:
            self.detach()

    def _on_writable(self) -> None:
        if self._carrier is not None and self._is_reading_paused:
            self._is_reading_paused = False
            self._carrier.resume_reading()
        if self._core.has_output:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_receiving:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        carrier = self._carrier
        if carrier is None or not self._core.has_output:
            return
        if not carrier.is_writable:
            # From a caller that does not take its results, no new calls are read.
            if not self._is_reading_paused:
                self._is_reading_paused = True
                carrier.pause_reading()
            return
        if self.before_sending is not None:
            self.before_sending()
            if carrier is not self._carrier:
                return
        core = self._core
        for frame in core.take_frames(is_sure=core.unanswered_ping is None or self.is_sure()):
            carrier.send(frame)

    def _handle(self, events: list[OwnerEvent]) -> None:
        try:
            for event in events:
                if self._core.state is _LOST:
                    return
                if type(event) is Called:
                    # Calls must not inherit the context of the code that called the carrier, such as an operation.
                    Context().run(self._handler.on_calls, self, event.calls)
                else:
                    self._handlers[type(event)](event)
        except Exception:
            logger.exception("a callback of the session of %s raised; the session ends", self.peer_id)
            self._end(go_away_frame(Error(code=_INTERNAL, message="internal error", transient=True)))
