"""The calls of one session at the caller's end: those that wait, those subscribed, and messages for the owner.

Invariant: every read whose result is in use is in `_answered`, and no read in `_answered` has been reported out of
date; `_held` counts what the owner holds; the calls in `_pending` are exactly those that wait for a result.
`are_relied_on` is true while a read is answered, or sent and not reported out of date: its result, however old, goes to
all callers that have joined by then. A message in a list that is not empty needs no `on_output`: the list leaves whole,
and each Welcome calls it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fusion_cluster.errors import CommandOutcomeUnknown, FusionError, InvalidArgument, ShardUnavailable
from fusion_cluster.protocol import edge_chasing
from fusion_cluster.protocol.call import CallKind, OutdatedBy, OutgoingCall, add_calls, check_text
from fusion_cluster.protocol.endings import closed, late
from fusion_cluster.protocol.events import Answered, CallerEvent, Failed, MovedAway, Outdated
from fusion_cluster.protocol.holdings import CallerHoldings
from fusion_cluster.protocol.probes import ProbeQueue
from fusion_cluster.protocol.states import ON_CALLER_CALL, CallerCall, CallerCallEvent
from fusion_cluster.runtime.baggage import check_baggage
from fusion_cluster.v1.session_pb2 import ClientFrame, Holdings, Moved, Result
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE

RENEWAL_MARGIN_S: Final = 0.3
"""How long before its deadline a read can be renewed: enough for a later deadline to pass several owners."""

_INFINITY: Final = float("inf")
_READ: Final = CallKind.READ
_SENT: Final = CallerCall.SENT
_ON_RESULT: Final = (
    ON_CALLER_CALL[CallerCallEvent.RESULT],
    ON_CALLER_CALL[CallerCallEvent.OUTCOME],
    ON_CALLER_CALL[CallerCallEvent.OUTCOME],
)
_ON_INVALIDATION: Final = ON_CALLER_CALL[CallerCallEvent.INVALIDATION]
_ON_DETACH: Final = ON_CALLER_CALL[CallerCallEvent.DETACH]
_ON_LOSS: Final = ON_CALLER_CALL[CallerCallEvent.LOSS]
_ON_RENEWAL: Final = ON_CALLER_CALL[CallerCallEvent.RENEWAL]
_ON_END: Final = ON_CALLER_CALL[CallerCallEvent.END]


class CallerCalls:
    """The calls of one session.

    Args:
        on_output: called when there is something to send.

    Attributes:
        next_deadline_s: no call reaches its deadline before this time.
        are_relied_on: some of them depend on the read lease. May be true for longer, until `review`.
    """

    __slots__ = (
        "_answered",
        "_cancelled",
        "_held",
        "_is_ended",
        "_last_id",
        "_on_output",
        "_pending",
        "_probes",
        "_received",
        "_unsent",
        "_unsubscribed",
        "are_relied_on",
        "next_deadline_s",
    )

    def __init__(self, on_output: Callable[[], None]) -> None:
        self.next_deadline_s = _INFINITY
        self.are_relied_on = False
        self._on_output = on_output
        self._is_ended = False
        self._last_id = 0
        self._pending: dict[int, OutgoingCall] = {}
        self._answered: dict[int, OutgoingCall] = {}
        # Calls to be sent over this carrier; some may have ended meanwhile.
        self._unsent: list[OutgoingCall] = []
        self._cancelled: list[int] = []
        self._unsubscribed: list[int] = []
        self._received: list[int] = []
        self._held = CallerHoldings()
        self._probes = ProbeQueue()

    @property
    def pending_count(self) -> int:
        """The number of calls that wait for a result."""
        return len(self._pending)

    @property
    def subscription_count(self) -> int:
        """The number of reads that are answered and not out of date."""
        return len(self._answered)

    @property
    def departures(self) -> int:
        """The number of the last frame that gave reads up."""
        return self._held.number

    @property
    def answered(self) -> list[OutgoingCall]:
        """The reads that are answered and not out of date."""
        return list(self._answered.values())

    # -- the caller ---------------------------------------------------------------------------------------------------
    def start(self, call: OutgoingCall) -> None:
        """Take a new call; it leaves when the session is open.

        Raises:
            InvalidArgument: its arguments are too long for a frame, one of its names is not text, or its baggage cannot
                travel.
            ShardUnavailable: the session is closed.
        """
        if self._is_ended:
            raise ShardUnavailable("the link is closed")
        if not (call.method.isascii() and call.command_id.isascii()):
            check_text(call)
        if call.baggage:
            check_baggage(call.baggage)
        size = len(call.arguments) if call.invalidate is None else call.invalidate.ByteSize()
        if size > MAX_PAYLOAD_SIZE:
            raise InvalidArgument(f"{size} bytes of arguments, {MAX_PAYLOAD_SIZE} are allowed", field="arguments")
        self._last_id = call.id = call_id = self._last_id + 1
        self._pending[call_id] = call
        unsent = self._unsent
        is_first = not unsent
        unsent.append(call)
        review_at_s = call.deadline_s - RENEWAL_MARGIN_S
        if review_at_s < self.next_deadline_s:
            self.next_deadline_s = review_at_s
        if is_first:
            self._on_output()

    def cancel(self, call: OutgoingCall) -> None:
        """Drop a call whose caller has left: no event reports it any more."""
        if self._pending.pop(call.id, None) is None:
            self.unsubscribe(call.id)
            return
        if call.state is not CallerCall.WAITING:
            self._cancel(call)
            self._on_output()
        call.state = _ON_END[call.state]

    def unsubscribe(self, call_id: int) -> None:
        """Unsubscribe a read whose replica is gone: no event reports it any more, except an awaited result."""
        call = self._answered.pop(call_id, None)
        if call is not None:
            call.state = _ON_END[call.state]
            self._held.depart((call_id,))
            unsubscribed = self._unsubscribed
            unsubscribed.append(call_id)
            if len(unsubscribed) == 1:
                self._on_output()
            return
        call = self._pending.get(call_id)
        if call is not None:
            call.is_reported = True

    def probe(self, call: OutgoingCall, probe: edge_chasing.Probe) -> None:
        """Send a probe along a read; dropped if the read does not wait for its result over this carrier."""
        if call.state is _SENT and self._pending.get(call.id) is call and self._probes.add(call.id, probe):
            self._on_output()

    # -- the carrier --------------------------------------------------------------------------------------------------
    def resume(self) -> None:
        """Continue the session over a new carrier: every waiting call is to be sent."""
        self._unsent = list(self._pending.values())

    def begin_anew(self) -> list[CallerEvent]:
        """Begin a new session: the owner knows nothing of what was sent in the one before."""
        self._cancelled.clear()
        self._unsubscribed.clear()
        self._received.clear()
        self._held.clear()
        unknown: list[OutgoingCall] = []
        for call in list(self._pending.values()):
            if call.kind is CallKind.COMMAND and call.state is CallerCall.UNSURE:
                del self._pending[call.id]
                call.state = _ON_END[call.state]
                unknown.append(call)
            else:
                call.state = _ON_LOSS[call.state]
        self.resume()
        if not unknown:
            return []
        return [Failed(unknown, CommandOutcomeUnknown("the shard was lost while the command ran"))]

    def detach(self) -> None:
        """Note that the carrier is gone. What the owner may not have heard over it is sent again over the next one."""
        for call in self._pending.values():
            call.state = _ON_DETACH[call.state]
        self._probes.clear()
        self._unsubscribed[:0] = self._held.detach()
        self.are_relied_on = bool(self._answered)

    def write(self, frame: ClientFrame, now_s: float, *, with_calls: bool) -> None:
        """Put the waiting messages for the owner into a frame that is about to leave."""
        if with_calls and self._unsent:
            add_calls(frame, self._unsent, now_s)
            self._unsent = []
            self.are_relied_on = True
        if self._cancelled or self._unsubscribed:
            frame.cancelled.extend(self._cancelled)
            frame.unsubscribed.extend(self._unsubscribed)
            frame.departures = self._held.send(self._cancelled + self._unsubscribed)
            self._cancelled = []
            self._unsubscribed = []
        if self._received:
            frame.received.extend(self._received)
            self._received = []
        self._probes.write(frame)

    # -- messages from the owner
    def on_results(self, results: Iterable[Result], events: list[CallerEvent]) -> None:
        """Results came."""
        pending, answered, held = self._pending, self._answered, self._held
        calls: list[OutgoingCall] = []
        for result in results:
            call_id = result.id
            call = pending.get(call_id)
            if call is None:
                if call_id not in answered:
                    # The caller left while the result was on its way: the owner must not keep anything for it.
                    held.come_late(call_id)
                    self._unsubscribed.append(call_id)
                continue
            kind = call.kind
            state = _ON_RESULT[kind].get(call.state)
            if state is None:
                continue  # never sent: this result cannot be its own
            del pending[call_id]
            call.state = state
            call.result = result
            if kind is not _READ:
                self._received.append(call_id)
            elif call.is_reported:
                call.state = _ON_END[call.state]
                held.come_unwanted(call_id)
                self._unsubscribed.append(call_id)
            else:
                answered[call_id] = call
                held.count += 1
                held.sum += call_id
                held.sum_of_squares += call_id * call_id
            calls.append(call)
        if self._received or self._unsubscribed:
            self._on_output()
        if calls:
            self.are_relied_on = True
            events.append(Answered(calls))

    def on_invalidated(self, ids: Iterable[int], events: list[CallerEvent]) -> None:
        """Report reads as out of date, answered or not."""
        outdated: list[OutgoingCall] = []
        for call_id in ids:
            call = self._answered.pop(call_id, None)
            if call is not None:
                self._held.remove(call_id)
            else:
                call = self._pending.get(call_id)
                if call is None:
                    self._held.outdate(call_id)
                    continue
                if call.is_reported or call.kind is not _READ:
                    continue
            state = _ON_INVALIDATION.get(call.state)
            if state is None:
                continue  # never sent
            call.state = state
            call.is_reported = True
            outdated.append(call)
        if outdated:
            events.append(Outdated(outdated))

    def on_moved(self, moves: Iterable[Moved], events: list[CallerEvent]) -> None:
        """Report calls that went to the wrong owner."""
        calls: list[OutgoingCall] = []
        for moved in moves:
            call = self._pending.get(moved.id)
            if call is None or call.state is CallerCall.WAITING:
                continue
            del self._pending[moved.id]
            call.state = _ON_END[call.state]
            call.slot_map_version = moved.slot_map_version
            calls.append(call)
        if calls:
            events.append(MovedAway(calls))

    # -- ends ---------------------------------------------------------------------------------------------------------
    def outdate(self) -> list[CallerEvent]:
        """Apply the end of the read lease: no read is known to be fresh, and the owner need not report invalidations.

        Results of the reads in flight are not fresh either: they may have left before a change for which the owner does
        not wait for us any more. Callers that wait get them; new callers must ask again.
        """
        in_flight = [call for call in self._pending.values() if _is_read_in_flight(call)]
        for call in in_flight:
            call.is_reported = True
            call.outdated_by = OutdatedBy.LEASE
        events: list[CallerEvent] = [Outdated(in_flight)] if in_flight else []
        events += self.outdate_answered(OutdatedBy.LEASE)
        self.are_relied_on = False
        return events

    def outdate_answered(self, outdated_by: OutdatedBy) -> list[CallerEvent]:
        """Give up every answered read."""
        self._held.depart(self._answered)
        self._unsubscribed.extend(self._answered)
        if self._answered:
            self._on_output()
        events = self.lose_answered(outdated_by)
        self.review()
        return events

    def lose_answered(self, outdated_by: OutdatedBy) -> list[CallerEvent]:
        """Report every answered read as out of date: the session is lost, so the owner holds none of them."""
        if not self._answered:
            return []
        calls = list(self._answered.values())
        self._answered.clear()
        for call in calls:
            call.state = _ON_END[call.state]
            call.is_reported = True
            call.outdated_by = outdated_by
        return [Outdated(calls)]

    def review(self) -> None:
        """Check whether some of them still depend on the read lease."""
        self.are_relied_on = bool(self._answered) or any(map(_is_read_in_flight, self._pending.values()))

    def time_out(self, now_s: float, *, is_reachable: bool, can_renew: bool) -> list[CallerEvent]:
        """Give up the calls whose deadline has passed; renew the reads whose callers have more time by now."""
        calls: list[OutgoingCall] = []
        next_s = _INFINITY
        for call in list(self._pending.values()):
            if can_renew and call.kind is _READ and call.deadline_s - RENEWAL_MARGIN_S <= now_s:
                deadline_s = call.latest_deadline_s()
                if deadline_s > call.deadline_s:
                    self._renew(call, deadline_s)
            if call.gives_up_at_s <= now_s:
                calls.append(call)
            else:
                next_s = min(next_s, call.deadline_s - RENEWAL_MARGIN_S if call.kind is _READ else call.gives_up_at_s)
        failures = late(calls, is_reachable=is_reachable)
        for call in calls:
            self.cancel(call)
        self.next_deadline_s = next_s
        return [*failures]

    def _renew(self, call: OutgoingCall, deadline_s: float) -> None:
        """Ask again, with a later deadline. In a frame, calls come before cancellations: the owner's work goes on."""
        del self._pending[call.id]
        if call.state is not CallerCall.WAITING:
            self._cancel(call)
            self._unsent.append(call)
            call.state = _ON_RENEWAL[call.state]
        self._last_id = call.id = self._last_id + 1
        call.deadline_s = deadline_s
        self._pending[call.id] = call
        self._on_output()

    def _cancel(self, call: OutgoingCall) -> None:
        self._cancelled.append(call.id)
        if call.kind is _READ:
            self._held.cancel(call.id)

    def end(self, error: FusionError) -> list[CallerEvent]:
        """Give up all calls for this reason."""
        self._is_ended = True
        failures = closed(self._pending.values(), error)
        for call in self._pending.values():
            call.state = _ON_END[call.state]
        self._pending.clear()
        return [*failures, *self.lose_answered(OutdatedBy.CLOSE)]

    # -- the check of what the owner holds
    def agree(self, holdings: Holdings) -> bool:
        """Whether the owner holds what it should, after its frames so far."""
        self._held.hear(holdings.departures)
        return self._held.agree(holdings)

    def repair(self, holdings: Holdings) -> list[CallerEvent]:
        """Hold the same reads as the owner: the ids are there. A waiting read that it holds has lost its result."""
        self._held.hear(holdings.departures)
        held = set(holdings.ids)
        lost = [call for call_id, call in self._answered.items() if call_id not in held]
        unknown = self._held.unknown(held, self._answered)
        for call in lost:
            del self._answered[call.id]
            call.state = _ON_INVALIDATION[call.state]
            call.is_reported = True
        for call_id in unknown:
            waiting = self._pending.get(call_id)
            if waiting is not None and waiting.kind is _READ and waiting.state is _SENT:
                self._renew(waiting, waiting.deadline_s)
            else:
                self._unsubscribed.append(call_id)
                self._on_output()
        return [Outdated(lost)] if lost else []


def _is_read_in_flight(call: OutgoingCall) -> bool:
    return call.kind is _READ and call.state is _SENT and not call.is_reported
