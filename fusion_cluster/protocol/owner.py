"""The owner's end of a session, without IO: frames and the time in, events and frames out.

The driver's obligations:
- a carrier is attached once its Hello has been checked (`handshake.OwnerHandshake`), `receive` gets each frame after
  that in order, `detach` comes once the carrier is gone, or before another one takes the session over;
- handle the events of each call in order, before anything else is done with the session;
- `take_frames` while `is_sure` only if this process does not doubt itself what it has read from others;
- answer each call and each invalidation request once: `send_result`, `send_error` or `send_moved`; report the
  invalidation of a read with `send_invalidated`, whether it has been answered or still runs;
- `on_output` says that `take_frames` has something; take it at the end of the turn of the event loop, and only while
  the carrier is writable;
- a `RemoteProtocolError` out of `receive`: report it in a GoAway, close the carrier, `lose` the session.

Invariant: `_calls` holds exactly the calls that run, are subscribed, or whose result is kept; `_in_flight` counts those
that run or are kept; `_sum` and `_sum_of_squares` are over the ids of those that are subscribed (see `holdings`);
`_out` holds the messages that no carrier has taken yet. A read whose result does not subscribe it has its id among the
invalidated of the same frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from fusion_cluster.errors import LocalProtocolError, RemoteProtocolError
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
from fusion_cluster.protocol.holdings import MASK
from fusion_cluster.protocol.limits import SessionLimits
from fusion_cluster.protocol.parsing import cut_server_frame, parse_client_frame
from fusion_cluster.protocol.probes import read_probe
from fusion_cluster.protocol.states import (
    ON_OWNER_CALL,
    OWNER_CALL,
    OWNER_LINK,
    OwnerCall,
    OwnerCallEvent,
    OwnerLink,
    OwnerLinkEvent,
)
from fusion_cluster.transitions import next_state
from fusion_cluster.v1.session_pb2 import (
    Call,
    ClientFrame,
    Error,
    Hello,
    Invalidate,
    Ping,
    Pong,
    Probe,
    Result,
    ServerFrame,
)
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE

RESOURCE_EXHAUSTED: Final = 8
"""google.rpc.Code of a call beyond a limit."""

_FIRST_STATE: Final = {
    Call.KIND_READ: OwnerCall.RUNNING,
    Call.KIND_COMMAND: OwnerCall.REQUESTED,
}
_ON_RESULT: Final = ON_OWNER_CALL[OwnerCallEvent.RESULT]
_ON_LAST_RESULT: Final = ON_OWNER_CALL[OwnerCallEvent.LAST_RESULT]
_ON_INVALIDATION: Final = ON_OWNER_CALL[OwnerCallEvent.INVALIDATION]
_ON_MOVE: Final = ON_OWNER_CALL[OwnerCallEvent.MOVE]
_ON_LEAVE: Final = ON_OWNER_CALL[OwnerCallEvent.LEAVE]
_ON_CONFIRM: Final = ON_OWNER_CALL[OwnerCallEvent.CONFIRM]
_ON_REPEAT: Final = ON_OWNER_CALL[OwnerCallEvent.REPEAT]
_ATTACHED: Final = OwnerLink.ATTACHED
_RUNNING: Final = OwnerCall.RUNNING
_OUTDATED: Final = OwnerCall.OUTDATED
_REQUESTED: Final = OwnerCall.REQUESTED
_WAITED_FOR: Final = (_RUNNING, _OUTDATED)
_SUBSCRIBED: Final = OwnerCall.SUBSCRIBED
_KEPT: Final = OwnerCall.KEPT


def _nothing() -> None:
    pass


class OwnerSession:
    """The owner's end of one session.

    Args:
        peer_id: the peer id of the caller.
        limits: bounds on its calls and subscriptions.
        on_output: called when there is something to send after there was nothing.

    Attributes:
        state: the state of the link.
        heard_at_s: when the last frame came.
        has_output: `take_frames` has something.
        unanswered_ping: the sequence number of the ping to answer; None: there is none.
    """

    def __init__(
        self,
        *,
        peer_id: str,
        limits: SessionLimits | None = None,
        on_output: Callable[[], None] = _nothing,
        now_s: float = 0.0,
    ) -> None:
        self.peer_id = peer_id
        self.state = OwnerLink.DETACHED
        self.heard_at_s = now_s
        self.has_output = False
        self._limits = limits or SessionLimits()
        self._on_output = on_output
        self._calls: dict[int, OwnerCall] = {}
        self._in_flight = 0
        # Results of requests that the caller has not confirmed; ids as in _calls with state KEPT.
        self._kept: dict[int, Result] = {}
        self._sum = 0
        self._sum_of_squares = 0
        # Calls whose last message leaves first over this carrier: they may come again, once, and must be known then.
        self._settled_away: set[int] = set()
        # Calls whose results leave over this carrier, and that may come again, once. For any other subscribed read that
        # comes again, the result is lost.
        self._awaited: set[int] = set()
        # The number of the last frame that gave reads up; whether the next pong is to have the ids of those held.
        self._departures = 0
        self._is_asked_for_ids = False
        # Barrier marks in the order sent; each is kept until it is settled.
        self._marks: list[int] = []
        self.unanswered_ping: int | None = None
        self._out: ServerFrame
        self._add_result: Callable[..., Result]
        self._renew_out()

    # -- answers ------------------------------------------------------------------------------------------------------
    def send_result(
        self, call_id: int, version: int, value: bytes, *, subscribed: bool, replayed: bool = False
    ) -> None:
        """Send the value of a call. Dropped when the caller has left.

        Args:
            call_id: the id of the call.
            version: the version of the computed; 0 for a command.
            value: encoded for the wire; a value that is too long becomes an error.
            subscribed: for a read, the caller will be notified of the invalidation. False: its value is out of date
                already, and the same frame says so.
            replayed: for a command, an earlier run gave the result.

        Raises:
            LocalProtocolError: the call has been answered.
        """
        if len(value) > MAX_PAYLOAD_SIZE:
            message = f"a value of {len(value)} bytes, {MAX_PAYLOAD_SIZE} are allowed"
            error = Error(code=RESOURCE_EXHAUSTED, type="ResourceExhausted", message=message)
            self.send_error(call_id, version, error, subscribed=subscribed)
            return
        state = self._calls.get(call_id)
        if state is None:
            return
        if state is _RUNNING and subscribed:
            self._in_flight -= 1
            self._calls[call_id] = _SUBSCRIBED
            self._sum += call_id
            self._sum_of_squares += call_id * call_id
            self._add_result(id=call_id, version=version, value=value)
        else:
            self._answer(state, Result(id=call_id, version=version, value=value, replayed=replayed), subscribed)
        if not self.has_output:
            self._output()

    def send_error(self, call_id: int, version: int, error: Error, *, subscribed: bool) -> None:
        """Send the error of a call. Dropped when the caller has left; arguments as for `send_result`.

        Raises:
            LocalProtocolError: the call has been answered.
        """
        state = self._calls.get(call_id)
        if state is not None:
            self._answer(state, Result(id=call_id, version=version, error=error), subscribed)
            self._output()

    def send_varies(self, call_id: int) -> None:
        """Report that the result of a read depends on the principal, which the read does not carry.

        Dropped when the caller has left.

        Raises:
            LocalProtocolError: the call has been answered.
        """
        state = self._calls.get(call_id)
        if state is not None:
            self._answer(state, Result(id=call_id, varies=True), subscribed=False)
            self._output()

    def send_moved(self, call_id: int, slot_map_version: int) -> None:
        """Report that this process does not own the key of a call. Dropped when the caller has left.

        Raises:
            LocalProtocolError: the call has been answered.
        """
        state = self._calls.get(call_id)
        if state is not None:
            next_state(OWNER_CALL, OwnerCallEvent.MOVE, state, LocalProtocolError)
            self._forget(call_id, state)
            self._out.moved.add(id=call_id, slot_map_version=slot_map_version)
            self._output()

    def send_invalidated(self, call_id: int) -> None:
        """Report that the computed of a read is out of date. Dropped when the caller has left or knows it already."""
        state = self._calls.get(call_id)
        if state is None or state is _OUTDATED:
            return
        following = next_state(OWNER_CALL, OwnerCallEvent.INVALIDATION, state, LocalProtocolError)
        if following is OwnerCall.FORGOTTEN:
            del self._calls[call_id]
            self._sum -= call_id
            self._sum_of_squares -= call_id * call_id
        else:
            self._calls[call_id] = following
        self._out.invalidated.append(call_id)
        if not self.has_output:
            self._output()

    def send_barrier(self, barrier: int) -> None:
        """Put a mark behind the invalidations sent so far; `BarrierAnswered` answers it, once for each mark."""
        if self.state is OwnerLink.LOST:
            return
        self._marks.append(barrier)
        self._out.barriers.append(barrier)
        self._output()

    # -- the carrier --------------------------------------------------------------------------------------------------
    def attach(self, now_s: float) -> None:
        """Attach a carrier that has proved that it belongs to this session; its Welcome is sent."""
        self._step(OwnerLinkEvent.ATTACH, LocalProtocolError)
        self.heard_at_s = now_s
        waiting = {result.id for result in self._out.results}
        self._settled_away = {*waiting, *(moved.id for moved in self._out.moved)}.difference(self._calls)
        self._awaited = {i for i, state in self._calls.items() if state is not _SUBSCRIBED or i in waiting}
        self._out.results.extend(result for call_id, result in self._kept.items() if call_id not in waiting)
        # Sent before, but perhaps lost with the carrier. Sent again before the marks, so that no caller answers a mark
        # while it still lets new readers join a read that is out of date, or trusts its result.
        told = set(self._out.invalidated)
        self._out.invalidated.extend(i for i, state in self._calls.items() if state is _OUTDATED and i not in told)
        self._out.invalidated.extend(sorted(waiting.difference(self._calls, told)))
        del self._out.barriers[:]
        self._out.barriers.extend(self._marks)
        self.has_output = False
        if self._out.ByteSize():
            self._output()

    def detach(self) -> None:
        """Note that the carrier is gone. Subscriptions stay: the caller asks over the next one which of them."""
        self._step(OwnerLinkEvent.DETACH, LocalProtocolError)
        self.unanswered_ping = None
        self._is_asked_for_ids = False

    def lose(self) -> None:
        """End the session: nothing is answered any more, and no carrier comes back."""
        self._step(OwnerLinkEvent.LOSE, LocalProtocolError)
        self._calls.clear()
        self._kept.clear()
        self._marks.clear()
        self._in_flight = self._sum = self._sum_of_squares = 0
        self._renew_out()

    def receive(self, data: bytes, now_s: float) -> list[OwnerEvent]:
        """Take a frame that came.

        Raises:
            RemoteProtocolError: it is not allowed now, or is not a frame. Then `lose` the session.
        """
        if self.state is not _ATTACHED:
            next_state(OWNER_LINK, OwnerLinkEvent.BATCH, self.state, RemoteProtocolError)
        fields = parse_client_frame(data).ListFields()
        if not fields:
            raise RemoteProtocolError("a frame of unknown kind")
        self.heard_at_s = now_s
        events: list[OwnerEvent] = []
        for field, value in fields:
            _TAKERS[field.number](self, value, events)
        return events

    def answer_pings(self) -> None:
        """Send the pong that was held back, if there is one: this end is sure again."""
        if self.unanswered_ping is not None and self.state is _ATTACHED:
            self._output()

    def take_frames(self, *, is_sure: bool = True) -> list[bytes]:
        """Return everything to send now, in as few frames as the size allows. Call it only while attached.

        Args:
            is_sure: pings are answered. False: they wait for a later frame, because the caller may serve for one more
                read lease after a pong, and this end does not know whether what it has sent is up to date.
        """
        if self.state is not _ATTACHED:
            self._step(OwnerLinkEvent.BATCH, LocalProtocolError)
        self.has_output = False
        frame = self._out
        self._renew_out()
        frames = cut_server_frame(frame)
        if self.unanswered_ping is not None and is_sure:
            frames.append(self._pong(self.unanswered_ping))
        return frames

    @property
    def subscription_count(self) -> int:
        """The number of reads that are answered and subscribed."""
        return len(self._calls) - self._in_flight

    @property
    def in_flight_count(self) -> int:
        """The number of calls that run, plus results of requests that are not confirmed."""
        return self._in_flight

    @property
    def running_count(self) -> int:
        """The number of calls that are not answered."""
        return self._in_flight - len(self._kept)

    # -- frames in ----------------------------------------------------------------------------------------------------
    def _on_hello(self, hello: Hello, events: list[OwnerEvent]) -> None:
        raise RemoteProtocolError("a second Hello")

    def _on_calls(self, calls: Iterable[Call], events: list[OwnerEvent]) -> None:
        known, settled_away = self._calls, self._settled_away
        in_flight, max_in_flight = self._in_flight, self._limits.max_calls
        max_known = max_in_flight + self._limits.max_subscriptions
        fresh: list[Call] = []
        lost: list[int] = []
        for call in calls:
            call_id = call.id
            if call_id in known:
                if call_id in self._awaited or _ON_REPEAT.get(known[call_id]) is None:
                    self._awaited.discard(call_id)
                    continue  # sent again over a new carrier: its result is on its way, or will be
                self._forget(call_id, _SUBSCRIBED)
                lost.append(call_id)
            if settled_away and call_id in settled_away:
                settled_away.remove(call_id)
            else:
                state = _FIRST_STATE.get(call.kind)
                if state is None or not call_id:
                    raise RemoteProtocolError("a call of unknown kind, or without an id")
                if in_flight >= max_in_flight or len(known) >= max_known:
                    self._refuse(call_id, is_read=state is _RUNNING)
                    continue
                known[call_id] = state
                in_flight += 1
                fresh.append(call)
        self._in_flight = in_flight
        if lost:
            events.append(Unsubscribed(lost))
        if fresh:
            events.append(Called(fresh))

    def _on_invalidations(self, requests: Iterable[Invalidate], events: list[OwnerEvent]) -> None:
        requested: list[OwnerEvent] = []
        called = {call.id for event in events if type(event) is Called for call in event.calls}
        for request in requests:
            if request.id in self._calls:
                continue
            if not request.id or request.id in called:  # called, and cancelled in the same frame
                raise RemoteProtocolError("an invalidation request without an id of its own")
            if self._in_flight >= self._limits.max_calls:
                self._refuse(request.id, is_read=False)
            else:
                self._calls[request.id] = _REQUESTED
                self._in_flight += 1
                requested.append(InvalidationRequested(request))
        # Before the reads of the same frame, which may have been made after them and rely on them.
        events[:0] = requested

    def _on_cancelled_or_unsubscribed(self, ids: Iterable[int], events: list[OwnerEvent]) -> None:
        cancelled: list[int] = []
        unsubscribed: list[int] = []
        for call_id in ids:
            state = self._calls.get(call_id)
            if state is _SUBSCRIBED:
                self._forget(call_id, state)
                unsubscribed.append(call_id)
            elif state is not None and _ON_LEAVE.get(state) is not None:
                self._forget(call_id, state)
                if state is not _KEPT:
                    cancelled.append(call_id)
        if cancelled:
            events.append(Cancelled(cancelled))
        if unsubscribed:
            events.append(Unsubscribed(unsubscribed))

    def _on_received(self, ids: Iterable[int], events: list[OwnerEvent]) -> None:
        for call_id in ids:
            state = self._calls.get(call_id)
            if state is not None and _ON_CONFIRM.get(state) is OwnerCall.FORGOTTEN:
                self._forget(call_id, state)

    def _on_settled(self, barriers: Iterable[int], events: list[OwnerEvent]) -> None:
        self._on_barriers(barriers, events, confirms=True)

    def _on_joined(self, barriers: Iterable[int], events: list[OwnerEvent]) -> None:
        self._on_barriers(barriers, events, confirms=False)

    def _on_probes(self, probes: Iterable[Probe], events: list[OwnerEvent]) -> None:
        for message in probes:
            probe = read_probe(message)
            if self._calls.get(message.id) in _WAITED_FOR:
                events.append(Probed(message.id, probe))

    def _on_leaving(self, is_leaving: bool, events: list[OwnerEvent]) -> None:
        events.append(Left())

    def _on_ping(self, ping: Ping, events: list[OwnerEvent]) -> None:
        self.unanswered_ping = ping.sequence
        self._is_asked_for_ids = self._is_asked_for_ids or ping.asks_ids
        self._output()

    def _on_departures(self, number: int, events: list[OwnerEvent]) -> None:
        self._departures = number

    def _on_barriers(self, barriers: Iterable[int], events: list[OwnerEvent], *, confirms: bool) -> None:
        for barrier in barriers:
            if barrier in self._marks:
                self._marks.remove(barrier)
                events.append(BarrierAnswered(barrier, confirms))

    def _refuse(self, call_id: int, *, is_read: bool) -> None:
        retry_after_ms = self._limits.retry_after_ms
        result = self._out.results.add(id=call_id)
        result.error.code = RESOURCE_EXHAUSTED
        result.error.type = "Overloaded"
        result.error.message = "too many calls in flight, or subscriptions, in this session"
        result.error.transient = True
        result.error.retry_after_ms = retry_after_ms
        if is_read:
            self._out.invalidated.append(call_id)
        self._output()

    # -- calls --------------------------------------------------------------------------------------------------------
    def _answer(self, state: OwnerCall, result: Result, subscribed: bool) -> None:
        event = OwnerCallEvent.RESULT if subscribed else OwnerCallEvent.LAST_RESULT
        following = next_state(OWNER_CALL, event, state, LocalProtocolError)
        call_id = result.id
        self._out.results.append(result)
        if following is _SUBSCRIBED:
            self._in_flight -= 1
            self._calls[call_id] = following
            self._sum += call_id
            self._sum_of_squares += call_id * call_id
        elif following is _KEPT:
            self._calls[call_id] = following
            self._kept[call_id] = result
        else:
            self._forget(call_id, state)
            if state is not _REQUESTED:
                self._out.invalidated.append(call_id)

    def _forget(self, call_id: int, state: OwnerCall) -> None:
        del self._calls[call_id]
        if state is _SUBSCRIBED:
            self._sum -= call_id
            self._sum_of_squares -= call_id * call_id
        else:
            self._in_flight -= 1
        if state is _KEPT:
            del self._kept[call_id]

    def _pong(self, sequence: int) -> bytes:
        """Return the answer to the last ping: what is held when all that has left before it is applied.

        It is a frame of its own, because carriers may merge frames, and this one has its place in their order.
        """
        pong = Pong(sequence=sequence)
        self.unanswered_ping = None
        holdings = pong.holdings
        holdings.count = self.subscription_count
        holdings.sum = self._sum & MASK
        holdings.sum_of_squares = self._sum_of_squares & MASK
        holdings.departures = self._departures
        if self._is_asked_for_ids:
            self._is_asked_for_ids = False
            holdings.has_ids = True
            holdings.ids.extend(call_id for call_id, state in self._calls.items() if state is _SUBSCRIBED)
        return ServerFrame(pong=pong).SerializeToString()

    def _renew_out(self) -> None:
        self._out = ServerFrame()
        self._add_result = self._out.results.add

    def _output(self) -> None:
        if not self.has_output:
            self.has_output = True
            self._on_output()

    def _step(self, event: OwnerLinkEvent, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> None:
        self.state = next_state(OWNER_LINK, event, self.state, error)


# Number of a field of ClientFrame -> its handler. Fields come in the order of their numbers.
_TAKERS: Final[dict[int, Callable[[OwnerSession, Any, list[OwnerEvent]], None]]] = {
    ClientFrame.DESCRIPTOR.fields_by_name[name].number: taker
    for name, taker in (
        ("hello", OwnerSession._on_hello),
        ("calls", OwnerSession._on_calls),
        ("cancelled", OwnerSession._on_cancelled_or_unsubscribed),
        ("unsubscribed", OwnerSession._on_cancelled_or_unsubscribed),
        ("received", OwnerSession._on_received),
        ("invalidations", OwnerSession._on_invalidations),
        ("settled_barriers", OwnerSession._on_settled),
        ("joined_barriers", OwnerSession._on_joined),
        ("ping", OwnerSession._on_ping),
        ("leaving", OwnerSession._on_leaving),
        ("probes", OwnerSession._on_probes),
        ("departures", OwnerSession._on_departures),
    )
}
