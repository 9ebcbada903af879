"""The caller's end of a session, without IO: frames and the time in, events and frames out.

The driver's obligations:
- `now_s` comes from one monotonic clock, read when the bytes came or when the frames are about to leave;
- `attach` with a fresh nonce for each carrier, `receive` for each of its frames in order, `detach` once it is gone;
- handle the events of each call in order, before anything else is done with the session;
- `on_output` says that `take_frames` has something; take it at the end of the turn of the event loop, so that a frame
  holds all that became ready in it, and only while the carrier is writable;
- `tick` several times in each read lease: deadlines, pings and the lease itself are noticed there;
- `expire` before anything read here is used past `fence_s`, for ticks come late in a process that was stopped;
- a `ProtocolError` out of `receive`: `void`, close the carrier, `detach`.

The session outlives its carriers. What has to survive is the state of each call, not the frames that were sent.

While the carrier is gone the answered reads are *in doubt*, from a `Doubted` until an `Assured`. The doubt ends when a
pong over the next carrier shows that both ends hold the same reads, after a repair if need be. It also ends, and then
they are all out of date, when the session is lost or a part of the read lease is over (`lease.DOUBT_PART`). Barrier
marks that come meanwhile are reported after it: an invalidation before the mark may have been lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from fusion_cluster.errors import (
    FusionError,
    LocalProtocolError,
    RemoteProtocolError,
    ShardUnavailable,
)
from fusion_cluster.protocol.call import OutdatedBy, OutgoingCall
from fusion_cluster.protocol.caller_calls import CallerCalls
from fusion_cluster.protocol.endings import refusal
from fusion_cluster.protocol.events import (
    Assured,
    BarriersReached,
    CallerEvent,
    Doubted,
    Leaving,
    Opened,
    Refused,
    Silent,
)
from fusion_cluster.protocol.handshake import CallerHandshake
from fusion_cluster.protocol.lease import ReadLease
from fusion_cluster.protocol.marks import BarrierMarks
from fusion_cluster.protocol.parsing import cut_client_frame, parse_server_frame
from fusion_cluster.protocol.states import (
    CALLER_LINK,
    ON_CALLER_LINK,
    CallerLink,
    CallerLinkEvent,
)
from fusion_cluster.transitions import next_state
from fusion_cluster.v1.session_pb2 import (
    Challenge,
    ClientFrame,
    GoAway,
    Holdings,
    ServerFrame,
    Welcome,
)

_INFINITY: Final = float("inf")
_OPEN: Final = CallerLink.OPEN
_LEAVING: Final = CallerLink.LEAVING
_AWAITING_WELCOME: Final = CallerLink.AWAITING_WELCOME
# Numbers of the fields of a ServerFrame: a frame is asked once for the fields that it holds.
_CHALLENGE, _WELCOME, _RESULTS, _INVALIDATED, _BARRIERS, _MOVED, _PONG, _GO_AWAY = (
    ServerFrame.DESCRIPTOR.fields_by_name[name].number
    for name in ("challenge", "welcome", "results", "invalidated", "barriers", "moved", "pong", "go_away")
)
_NOT_A_BATCH: Final = frozenset((_CHALLENGE, _WELCOME, _GO_AWAY))
_Fields: TypeAlias = dict[int, Any]

_ON_BATCH: Final = ON_CALLER_LINK[CallerLinkEvent.BATCH]


def _nothing() -> None:
    pass


class CallerSession:
    """The caller's end of one session.

    Args:
        peer_id: names this process.
        secret: the cluster secret; None: the cluster has none.
        on_output: called when there is something to send after there was nothing.

    Attributes:
        state: the state of the link.
        epoch: the owner's incarnation, of the last Welcome; 0 before.
        owner_id: the owner's peer id, of the last Welcome.
        slot_map_version: sent to the owner in the next Hello.
        owner_slot_map_version: the version in the last Welcome.
        start: `CallerCalls.start`.
        cancel: `CallerCalls.cancel`.
        unsubscribe: `CallerCalls.unsubscribe`.
        probe: `CallerCalls.probe`.
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
        self._calls = CallerCalls(self._output)
        # The hot path: no call in between.
        self.start = self._calls.start
        self.cancel = self._calls.cancel
        self.unsubscribe = self._calls.unsubscribe
        self.probe = self._calls.probe
        self._resume_token = b""
        # Until when the answered reads may be in doubt; None: they are not.
        self._doubt_until_s: float | None = None
        self._held_marks: list[int] = []
        self._asks_ids = False
        self._lease = ReadLease()
        self._marks = BarrierMarks()

    # -- the caller ---------------------------------------------------------------------------------------------------
    def settle(self, barrier: int, *, confirms: bool = True) -> None:
        """Answer one mark of a barrier given in `BarriersReached`.

        Args:
            barrier: the barrier of the mark.
            confirms: everything before the mark is settled here and below; False: the barrier had come by another way.
        """
        if self._marks.settle(barrier, confirms=confirms):
            self._output()

    def leave(self, now_s: float) -> list[bytes]:
        """Return the last frames before this end closes in good order; empty unless a session is open."""
        if self.state is not _OPEN and self.state is not _LEAVING:
            return []
        return [*self.take_frames(now_s), ClientFrame(leaving=True).SerializeToString()]

    @property
    def lease_until_s(self) -> float:
        """Until when replicas may be served; minus infinity unless a session is open."""
        return self._lease.until_s

    @property
    def fence_s(self) -> float:
        """When `expire` has something to do if the lease is not renewed; infinite while nothing depends on it."""
        if not self._calls.are_relied_on:
            return _INFINITY
        is_open = self.state is _OPEN or self.state is _LEAVING
        until_s = self._lease.until_s if is_open else _INFINITY
        return until_s if self._doubt_until_s is None else min(until_s, self._doubt_until_s)

    @property
    def is_in_doubt(self) -> bool:
        """Whether nobody knows if the answered reads are up to date."""
        return self._doubt_until_s is not None

    @property
    def answered(self) -> list[OutgoingCall]:
        """The reads that are answered and not out of date."""
        return self._calls.answered

    @property
    def pending_count(self) -> int:
        """The number of calls that wait for a result."""
        return self._calls.pending_count

    @property
    def subscription_count(self) -> int:
        """The number of reads that are answered and not out of date."""
        return self._calls.subscription_count

    # -- the carrier --------------------------------------------------------------------------------------------------
    def attach(self, nonce: bytes, now_s: float) -> None:
        """Attach a carrier; `nonce` has to be fresh and random."""
        self._step(CallerLinkEvent.ATTACH, LocalProtocolError)
        self._handshake.begin(nonce)
        self._lease.hear(now_s)

    def detach(self, now_s: float) -> list[CallerEvent]:
        """Note that the carrier is gone. The answered reads are in doubt, or out of date if the session has ended."""
        is_resumable = bool(self._resume_token) and self.state is not _LEAVING
        self._step(CallerLinkEvent.DETACH, LocalProtocolError)
        doubt_until_s = self._lease.doubt_until_s(now_s)
        self._lease.end()
        self._marks.detach()
        self._held_marks.clear()
        self._asks_ids = False
        self._calls.detach()
        if self._doubt_until_s is not None:
            return [] if is_resumable else self._give_up_doubted()
        if is_resumable and self._calls.subscription_count:
            self._doubt_until_s = doubt_until_s
            return [Doubted()]
        return self._calls.outdate_answered(OutdatedBy.CARRIER)

    def void(self) -> None:
        """Do not resume this session: the next carrier begins a new one."""
        self._resume_token = b""

    def close(self) -> list[CallerEvent]:
        """End the session and send nothing: every call fails, every replica is out of date."""
        self._step(CallerLinkEvent.CLOSE, LocalProtocolError)
        return self._end(ShardUnavailable("the link is closed"))

    def refuse(self, error: FusionError) -> list[CallerEvent]:
        """Close because there is no way to the owner: every pending call fails for this reason."""
        self._step(CallerLinkEvent.CLOSE, LocalProtocolError)
        return self._end(error)

    def _end(self, error: FusionError) -> list[CallerEvent]:
        events = self._calls.end(error)
        self._end_doubt(events)
        return events

    def receive(self, data: bytes, now_s: float) -> list[CallerEvent]:
        """Take a frame that came.

        Raises:
            RemoteProtocolError: it is not allowed now, or is not a frame. Nothing of it was applied.
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
        """Return everything to send now, in as few frames as the size allows; nothing before the session is open."""
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
        self._calls.write(frame, now_s, with_calls=self.state is _OPEN)
        self._marks.write(frame)
        if now_s >= self._lease.ping_due_s:
            frame.ping.sequence = self._lease.ping(now_s)
            frame.departures = self._calls.departures
            if self._asks_ids:
                self._asks_ids = False
                frame.ping.asks_ids = True
        return cut_client_frame(frame)

    def expire(self, now_s: float) -> list[CallerEvent]:
        """End the read lease, or the doubt, if it has run out: `fence_s` is later than `now_s` from then on."""
        events: list[CallerEvent] = []
        if self._doubt_until_s is not None and self._doubt_until_s <= now_s:
            events += self._give_up_doubted()
        if self.fence_s <= now_s:
            return events + self._calls.outdate()
        self._calls.review()
        return events

    def tick(self, now_s: float) -> list[CallerEvent]:
        """Note that time has passed."""
        events: list[CallerEvent] = []
        is_open = self.state is _OPEN or self.state is _LEAVING
        if self._doubt_until_s is not None and self._doubt_until_s <= now_s:
            events += self._give_up_doubted()
        if is_open:
            self._release_marks(events)
            if now_s > self._lease.until_s:
                events += self._calls.outdate()
            if now_s >= self._lease.ping_due_s:
                self._output()
            if self._lease.is_silent(now_s):
                events.append(Silent())
        if now_s >= self._calls.next_deadline_s:
            events += self._calls.time_out(
                now_s,
                is_reachable=is_open and self._lease.was_heard_lately(now_s),
                can_renew=self.state is not _LEAVING,  # while leaving, no call is sent
            )
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
        if is_resumed:
            events.append(Opened(self.epoch, is_resumed))
            self._calls.resume()
            if self._doubt_until_s is not None:
                self._lease.ping_soon()
        else:
            events += self._calls.lose_answered(OutdatedBy.CARRIER)
            self._end_doubt(events)
            events.append(Opened(self.epoch, is_resumed))
            events += self._calls.begin_anew()
        self.has_output = False
        self._output()

    def _on_batch(self, present: _Fields, now_s: float, events: list[CallerEvent]) -> None:
        if _PONG in present:
            self._lease.renew(present[_PONG].sequence)
        is_expired = now_s > self._lease.until_s
        if is_expired:
            events += self._calls.outdate()
        if _RESULTS in present:
            self._calls.on_results(present[_RESULTS], events)
        if _MOVED in present:
            self._calls.on_moved(present[_MOVED], events)
        if _INVALIDATED in present:
            self._calls.on_invalidated(present[_INVALIDATED], events)
        if is_expired:
            events += self._calls.outdate()  # the results of this very frame, which was long on its way
        if _PONG in present:
            self._check(present[_PONG].holdings, events)
        if _BARRIERS in present:
            self._held_marks.extend(present[_BARRIERS])
        if self._held_marks:
            self._release_marks(events)

    def _check(self, holdings: Holdings, events: list[CallerEvent]) -> None:
        """Compare what the owner holds with what it should, after all of its frames so far."""
        if holdings.has_ids:
            events += self._calls.repair(holdings)
        elif not self._calls.agree(holdings):
            self._asks_ids = True
            self._lease.ping_soon()
            self._output()
            return
        self._end_doubt(events)

    def _give_up_doubted(self) -> list[CallerEvent]:
        events = self._calls.outdate_answered(OutdatedBy.CARRIER)
        self._end_doubt(events)
        return events

    def _end_doubt(self, events: list[CallerEvent]) -> None:
        if self._doubt_until_s is not None:
            self._doubt_until_s = None
            events.append(Assured())

    def _release_marks(self, events: list[CallerEvent]) -> None:
        if self._doubt_until_s is None and self._held_marks:
            barriers, self._held_marks = self._held_marks, []
            self._marks.come(barriers)
            events.append(BarriersReached(barriers))

    def _on_go_away(self, go_away: GoAway, events: list[CallerEvent]) -> None:
        if not go_away.HasField("error"):
            self._step(CallerLinkEvent.GO_AWAY, RemoteProtocolError)
            events.append(Leaving())
            return
        is_handshake = self.state in (CallerLink.AWAITING_CHALLENGE, CallerLink.AWAITING_WELCOME)
        self._step(CallerLinkEvent.REFUSAL, RemoteProtocolError)
        self.void()
        events.append(Refused(refusal(go_away.error, is_handshake=is_handshake)))

    # -- effects -----
    def _output(self) -> None:
        if not self.has_output:
            self.has_output = True
            self._on_output()

    def _step(self, event: CallerLinkEvent, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> None:
        self.state = next_state(CALLER_LINK, event, self.state, error)
