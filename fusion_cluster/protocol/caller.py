"""The caller's end of a session, without IO: frames and the time in, events and frames out.

The driver's obligations:
- `now_s` comes from one monotonic clock, read when the bytes came or when the frames are about to leave;
- `attach` with a fresh nonce for each carrier, `receive` for each of its frames in order, `detach` once it is gone;
- handle the events of each call in order, before anything else is done with the session;
- `on_output` says that `take_frames` has something; take it at the end of the turn of the event loop, so that a frame
  holds all that became ready in it, and only while the carrier is writable;
- `tick` several times in each read lease: deadlines, pings and the lease itself are noticed there;
- a `ProtocolError` out of `receive`: `void`, close the carrier, `detach`.

The session outlives its carriers. What has to survive is the state of each call, not the frames that were sent.

Invariant: every read whose result is used by somebody is in `_answered`, and nothing in `_answered` has been
reported out of date; the calls in `_pending` are exactly those that wait for a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from fusion_cluster.errors import (
    CommandOutcomeUnknown,
    FusionError,
    InvalidArgument,
    LocalProtocolError,
    RemoteProtocolError,
    ShardUnavailable,
)
from fusion_cluster.protocol.call import CallKind, OutgoingCall, add_calls, check_text
from fusion_cluster.protocol.endings import closed, late, refusal
from fusion_cluster.protocol.events import (
    Answered,
    BarriersReached,
    CallerEvent,
    Failed,
    Leaving,
    MovedAway,
    Opened,
    Outdated,
    Refused,
    Silent,
)
from fusion_cluster.protocol.handshake import CallerHandshake
from fusion_cluster.protocol.lease import ReadLease
from fusion_cluster.protocol.limits import MAX_PAYLOAD_SIZE
from fusion_cluster.protocol.marks import BarrierMarks
from fusion_cluster.protocol.parsing import cut_client_frame, parse_server_frame
from fusion_cluster.protocol.states import (
    CALLER_CALL,
    CALLER_LINK,
    CallerCall,
    CallerCallEvent,
    CallerLink,
    CallerLinkEvent,
    next_state,
)
from fusion_cluster.v1.session_pb2 import (
    Challenge,
    ClientFrame,
    GoAway,
    Moved,
    Result,
    ServerFrame,
    Welcome,
)

_OPEN: Final = CallerLink.OPEN
_LEAVING: Final = CallerLink.LEAVING
_CLOSED: Final = CallerLink.CLOSED
_AWAITING_WELCOME: Final = CallerLink.AWAITING_WELCOME
_INFINITY: Final = float("inf")
_READ: Final = CallKind.READ
# Numbers of the fields of a ServerFrame: what a frame holds is asked of it once.
_CHALLENGE, _WELCOME, _RESULTS, _INVALIDATED, _BARRIERS, _MOVED, _PONG, _GO_AWAY = (
    ServerFrame.DESCRIPTOR.fields_by_name[name].number
    for name in ("challenge", "welcome", "results", "invalidated", "barriers", "moved", "pong", "go_away")
)
_NOT_A_BATCH: Final = frozenset((_CHALLENGE, _WELCOME, _GO_AWAY))
_Fields: TypeAlias = dict[int, Any]

_ON_BATCH: Final = CALLER_LINK[CallerLinkEvent.BATCH]
_ON_RESULT: Final = (
    CALLER_CALL[CallerCallEvent.RESULT],
    CALLER_CALL[CallerCallEvent.OUTCOME],
    CALLER_CALL[CallerCallEvent.OUTCOME],
)
_ON_INVALIDATION: Final = CALLER_CALL[CallerCallEvent.INVALIDATION]
_ON_DETACH: Final = CALLER_CALL[CallerCallEvent.DETACH]
_ON_LOSS: Final = CALLER_CALL[CallerCallEvent.LOSS]


def _nothing() -> None:
    pass


class CallerSession:
    """The caller's end of one session.

    Args:
        peer_id: names this process.
        secret: the cluster secret; None where none is in force.
        on_output: called when there is something to send after there was nothing.

    Attributes:
        state: of the link.
        epoch: the owner's incarnation, of the last Welcome; 0 before.
        owner_id: the owner's peer id, of the last Welcome.
        slot_map_version: told to the owner in the next Hello.
        owner_slot_map_version: what the last Welcome said.
        has_output: `take_frames` has something, once the link's state allows it to be sent.
    """

    def __init__(self, *, peer_id: str, secret: bytes | None = None, on_output: Callable[[], None] = _nothing) -> None:
        self.state = CallerLink.DETACHED
        self.epoch = 0
        self.owner_id = ""
        self.slot_map_version = 0
        self.owner_slot_map_version = 0
        self.has_output = False
        self._handshake = CallerHandshake(peer_id=peer_id, secret=secret)
        self._on_output = on_output
        self._last_id = 0
        self._pending: dict[int, OutgoingCall] = {}
        self._answered: dict[int, OutgoingCall] = {}
        # A lower bound of the deadlines in _pending.
        self._next_deadline_s = _INFINITY
        # Calls to be sent over this carrier; some may have ended meanwhile.
        self._unsent: list[OutgoingCall] = []
        self._cancelled: list[int] = []
        self._unsubscribed: list[int] = []
        self._received: list[int] = []
        self._resume_token = b""
        self._lease = ReadLease()
        self._marks = BarrierMarks()

    # -- calls --------------------------------------------------------------------------------------------------------
    def start(self, call: OutgoingCall) -> None:
        """Take a new call; it leaves when the session is open.

        Raises:
            InvalidArgument: its arguments are too long for a frame, or a name of it is no text.
            ShardUnavailable: the session is closed.
        """
        if self.state is _CLOSED:
            raise ShardUnavailable("the link is closed")
        if call.path or not (call.method.isascii() and call.command_id.isascii()):
            check_text(call)
        size = len(call.arguments) if call.invalidate is None else call.invalidate.ByteSize()
        if size > MAX_PAYLOAD_SIZE:
            raise InvalidArgument(f"{size} bytes of arguments, {MAX_PAYLOAD_SIZE} are allowed", field="arguments")
        self._last_id = call.id = call_id = self._last_id + 1
        self._pending[call_id] = call
        self._unsent.append(call)
        if call.deadline_s < self._next_deadline_s:
            self._next_deadline_s = call.deadline_s
        if not self.has_output:
            self._output()

    def cancel(self, call: OutgoingCall) -> None:
        """The caller has left: nothing more is told of this call."""
        if self._pending.pop(call.id, None) is not None:
            if call.state is not CallerCall.WAITING:
                self._cancelled.append(call.id)
                self._output()
            call.state = CallerCall.ENDED
        else:
            self.unsubscribe(call.id)

    def unsubscribe(self, call_id: int) -> None:
        """The replica of a read is gone: nothing more is told of it, but a result that is still awaited."""
        call = self._answered.pop(call_id, None)
        if call is not None:
            call.state = CallerCall.ENDED
            self._unsubscribed.append(call_id)
            if not self.has_output:
                self._output()
            return
        call = self._pending.get(call_id)
        if call is not None:
            call.is_reported = True

    def settle(self, barrier: int, *, confirms: bool = True) -> None:
        """Answer one mark of a barrier given in `BarriersReached`.

        Args:
            barrier: whose mark.
            confirms: all that came before it is settled here and below; False: the barrier had come another way.
        """
        if self._marks.settle(barrier, confirms=confirms):
            self._output()

    def leave(self, now_s: float) -> list[bytes]:
        """The last frames before this end closes in good order; none while there is no open session."""
        if self.state is not _OPEN and self.state is not _LEAVING:
            return []
        return [*self.take_frames(now_s), ClientFrame(leaving=True).SerializeToString()]

    @property
    def lease_until_s(self) -> float:
        """Replicas may be served until then; minus infinity while there is no open session."""
        return self._lease.until_s

    @property
    def pending_count(self) -> int:
        """Calls that wait for a result."""
        return len(self._pending)

    @property
    def subscription_count(self) -> int:
        """Reads that are answered and not out of date."""
        return len(self._answered)

    # -- the carrier --------------------------------------------------------------------------------------------------
    def attach(self, nonce: bytes, now_s: float) -> None:
        """A carrier is there; `nonce` has to be fresh and random."""
        self._step(CallerLinkEvent.ATTACH, LocalProtocolError)
        self._handshake.begin(nonce)
        self._lease.hear(now_s)

    def detach(self) -> list[CallerEvent]:
        """The carrier is gone. Every read that was answered is out of date."""
        self._step(CallerLinkEvent.DETACH, LocalProtocolError)
        self._lease.end()
        self._marks.detach()
        for call in self._pending.values():
            call.state = _ON_DETACH[call.state]
        # The owner forgets the reads that it has answered, too: nothing to unsubscribe.
        return self._outdate_answered()

    def void(self) -> None:
        """Do not resume this session: the next carrier begins a new one."""
        self._resume_token = b""

    def close(self) -> list[CallerEvent]:
        """The end. Sends nothing; every call fails, every replica is out of date."""
        return self._end_all(ShardUnavailable("the link is closed"))

    def refuse(self, error: FusionError) -> list[CallerEvent]:
        """There is no way to the owner: close, with every pending call failing for this reason."""
        return self._end_all(error)

    def receive(self, data: bytes, now_s: float) -> list[CallerEvent]:
        """A frame came.

        Raises:
            RemoteProtocolError: it is not allowed now, or no frame. Nothing of it was applied.
            HandshakeRefused: the owner's end has not proved the secret, or speaks another version.
        """
        present: _Fields = {field.number: value for field, value in parse_server_frame(data).ListFields()}
        events: list[CallerEvent] = []
        if not present:
            raise RemoteProtocolError("a frame of unknown kind")
        if _CHALLENGE in present:
            self._on_challenge(present[_CHALLENGE])
        if _WELCOME in present:
            self._on_welcome(present[_WELCOME], events)
        if not _NOT_A_BATCH.issuperset(present):
            if self.state not in _ON_BATCH:
                self._step(CallerLinkEvent.BATCH, RemoteProtocolError)
            self._on_batch(present, now_s, events)
        if _GO_AWAY in present:
            self._on_go_away(present[_GO_AWAY], events)
        self._lease.hear(now_s)
        return events

    def take_frames(self, now_s: float) -> list[bytes]:
        """All that is to be sent now, as few frames as the size allows; nothing before the session is open."""
        if self.state is _AWAITING_WELCOME:
            hello = self._handshake.take_hello()
            if not hello:
                return []
            self._lease.hello_sent(now_s)
            return [hello]
        if self.state is not _OPEN and self.state is not _LEAVING:
            return []
        self.has_output = False
        frame = ClientFrame()
        if self._unsent and self.state is _OPEN:
            add_calls(frame, self._unsent, now_s)
            self._unsent = []
        if self._cancelled:
            frame.cancelled.extend(self._cancelled)
            self._cancelled = []
        if self._unsubscribed:
            frame.unsubscribed.extend(self._unsubscribed)
            self._unsubscribed = []
        if self._received:
            frame.received.extend(self._received)
            self._received = []
        self._marks.write(frame)
        if now_s >= self._lease.ping_due_s:
            frame.ping.sequence = self._lease.ping(now_s)
        return cut_client_frame(frame)

    def tick(self, now_s: float) -> list[CallerEvent]:
        """Time has passed."""
        events: list[CallerEvent] = []
        is_open = self.state is _OPEN or self.state is _LEAVING
        if is_open:
            if now_s > self._lease.until_s:
                events += self._outdate_expired()
            if now_s >= self._lease.ping_due_s:
                self._output()
            if self._lease.is_silent(now_s):
                events.append(Silent())
        if now_s >= self._next_deadline_s:
            events += self._time_out(now_s, is_reachable=is_open and self._lease.was_heard_lately(now_s))
        return events

    # -- frames in ----------------------------------------------------------------------------------------------------
    def _on_challenge(self, challenge: Challenge) -> None:
        self._step(CallerLinkEvent.CHALLENGE, RemoteProtocolError)
        self._handshake.answer(challenge, resume_token=self._resume_token, slot_map_version=self.slot_map_version)
        self.has_output = False
        self._output()

    def _on_welcome(self, welcome: Welcome, events: list[CallerEvent]) -> None:
        state = next_state(CALLER_LINK, CallerLinkEvent.WELCOME, self.state, RemoteProtocolError)
        self._handshake.check(welcome)
        is_resumed = welcome.resumed and bool(self._resume_token) and welcome.epoch == self.epoch
        if welcome.resumed and not is_resumed:
            raise RemoteProtocolError("the owner's end resumes a session that was not asked for")
        self.state = state
        self.epoch = welcome.epoch
        self.owner_id = welcome.peer_id
        self.owner_slot_map_version = welcome.slot_map_version
        self._resume_token = welcome.resume_token
        self._lease.begin(welcome.read_lease_ms / 1000)
        events.append(Opened(self.epoch, is_resumed))
        if not is_resumed:
            events += self._lose_session()
        self._unsent = list(self._pending.values())
        self.has_output = False
        self._output()

    def _on_batch(self, present: _Fields, now_s: float, events: list[CallerEvent]) -> None:
        if _PONG in present:
            self._lease.renew(present[_PONG].sequence)
        is_expired = now_s > self._lease.until_s
        if is_expired:
            events += self._outdate_expired()
        if _RESULTS in present:
            self._on_results(present[_RESULTS], events)
        if _MOVED in present:
            self._on_moved(present[_MOVED], events)
        if _INVALIDATED in present:
            self._on_invalidated(present[_INVALIDATED], events)
        if is_expired:
            events += self._outdate_expired()  # what came in this very frame, after a long way
        if _BARRIERS in present:
            barriers = list(present[_BARRIERS])
            self._marks.come(barriers)
            events.append(BarriersReached(barriers))

    def _on_results(self, results: Iterable[Result], events: list[CallerEvent]) -> None:
        pending, answered = self._pending, self._answered
        calls: list[OutgoingCall] = []
        for result in results:
            call_id = result.id
            call = pending.get(call_id)
            if call is None:
                if call_id not in answered:
                    # Its caller left while the result was on its way: the owner must not keep anything for it.
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
                call.state = CallerCall.ENDED
                self._unsubscribed.append(call_id)
            else:
                answered[call_id] = call
            calls.append(call)
        if self._received or self._unsubscribed:
            self._output()
        if calls:
            events.append(Answered(calls))

    def _on_invalidated(self, ids: Iterable[int], events: list[CallerEvent]) -> None:
        outdated: list[OutgoingCall] = []
        for call_id in ids:
            call = self._answered.pop(call_id, None) or self._pending.get(call_id)
            if call is None or call.is_reported or call.kind is not _READ:
                continue
            state = _ON_INVALIDATION.get(call.state)
            if state is None:
                continue  # never sent
            call.state = state
            call.is_reported = True
            outdated.append(call)
        if outdated:
            events.append(Outdated(outdated))

    def _on_moved(self, moves: Iterable[Moved], events: list[CallerEvent]) -> None:
        calls: list[OutgoingCall] = []
        for moved in moves:
            call = self._pending.get(moved.id)
            if call is None or call.state is CallerCall.WAITING:
                continue
            del self._pending[moved.id]
            call.state = CallerCall.ENDED
            call.slot_map_version = moved.slot_map_version
            calls.append(call)
        if calls:
            events.append(MovedAway(calls))

    def _on_go_away(self, go_away: GoAway, events: list[CallerEvent]) -> None:
        if not go_away.HasField("error"):
            self._step(CallerLinkEvent.GO_AWAY, RemoteProtocolError)
            events.append(Leaving())
            return
        is_handshake = self.state in (CallerLink.AWAITING_CHALLENGE, CallerLink.AWAITING_WELCOME)
        self._step(CallerLinkEvent.REFUSAL, RemoteProtocolError)
        self.void()
        events.append(Refused(refusal(go_away.error, is_handshake=is_handshake)))

    # -- ends ---------------------------------------------------------------------------------------------------------
    def _lose_session(self) -> list[CallerEvent]:
        """A new session begins: what the owner was told in the one before means nothing in it."""
        self._cancelled.clear()
        self._unsubscribed.clear()
        self._received.clear()
        unknown: list[OutgoingCall] = []
        for call in list(self._pending.values()):
            if call.kind is CallKind.COMMAND and call.state is CallerCall.UNSURE:
                del self._pending[call.id]
                call.state = CallerCall.ENDED
                unknown.append(call)
            else:
                call.state = _ON_LOSS[call.state]
        if not unknown:
            return []
        return [Failed(unknown, CommandOutcomeUnknown("the shard was lost while the command ran"))]

    def _outdate_expired(self) -> list[CallerEvent]:
        """The read lease has run out: nothing is known to be fresh, and the owner need not tell of it any more.

        Nor is what the reads in flight will bring: it may have left before a change that the owner has ceased to wait
        for us with. Those who wait get it; who comes now must ask anew.
        """
        in_flight = [
            call
            for call in self._pending.values()
            if call.kind is _READ and call.state is CallerCall.SENT and not call.is_reported
        ]
        for call in in_flight:
            call.is_reported = True
        events: list[CallerEvent] = [Outdated(in_flight)] if in_flight else []
        if self._answered:
            self._unsubscribed.extend(self._answered)
            self._output()
            events += self._outdate_answered()
        return events

    def _outdate_answered(self) -> list[CallerEvent]:
        if not self._answered:
            return []
        calls = list(self._answered.values())
        self._answered.clear()
        for call in calls:
            call.state = CallerCall.ENDED
            call.is_reported = True
        return [Outdated(calls)]

    def _time_out(self, now_s: float, *, is_reachable: bool) -> list[CallerEvent]:
        calls = [call for call in self._pending.values() if call.deadline_s <= now_s]
        failures = late(calls, is_reachable=is_reachable)
        for call in calls:
            self.cancel(call)
        self._next_deadline_s = min((call.deadline_s for call in self._pending.values()), default=_INFINITY)
        return [*failures]

    def _end_all(self, error: FusionError) -> list[CallerEvent]:
        self._step(CallerLinkEvent.CLOSE, LocalProtocolError)
        failures = closed(self._pending.values(), error)
        for call in self._pending.values():
            call.state = CallerCall.ENDED
        self._pending.clear()
        return [*failures, *self._outdate_answered()]

    # -- frames out ---------------------------------------------------------------------------------------------------
    def _output(self) -> None:
        if not self.has_output:
            self.has_output = True
            self._on_output()

    def _step(self, event: CallerLinkEvent, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> None:
        self.state = next_state(CALLER_LINK, event, self.state, error)
