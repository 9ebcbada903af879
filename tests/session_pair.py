"""Both ends of a session, and the carrier between them, driven by hand: no event loop, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fusion_cluster.protocol import CallerSession, CallKind, OutgoingCall, OwnerHandshake, OwnerSession, SessionLimits
from fusion_cluster.protocol.events import CallerEvent, OwnerEvent, Refused
from fusion_cluster.protocol.states import CallerLink, OwnerLink
from fusion_cluster.v1.session_pb2 import ClientFrame, Error, GoAway, Invalidate, KeyReference, ServerFrame


def read_call(method: str = "Carts.total", *, deadline_s: float = float("inf")) -> OutgoingCall:
    return OutgoingCall(CallKind.READ, method, b"\x90", deadline_s)


def command_call(method: str = "Carts.clear", *, deadline_s: float = float("inf")) -> OutgoingCall:
    call = OutgoingCall(CallKind.COMMAND, method, b"\x90", deadline_s)
    call.command_id = f"c-{method}"
    return call


def invalidation_call(*methods: str, barrier: int = 0) -> OutgoingCall:
    call = OutgoingCall(CallKind.INVALIDATION, "", b"")
    call.invalidate = Invalidate(keys=[KeyReference(method=m, arguments=b"\x90") for m in methods], barrier=barrier)
    return call


@dataclass
class SessionPair:
    """A caller's and an owner's end. Frames wait in `to_owner` and `to_caller` until they are delivered or lost.

    Attributes:
        on_frame: told of each frame that leaves: "caller" or "owner", and the message.
        on_event: told of each event: "caller" or "owner", and the event.
    """

    secret: bytes | None = b"secret"
    epoch: int = 1
    read_lease_ms: int = 3000
    limits: SessionLimits = field(default_factory=SessionLimits)
    on_frame: Callable[[str, ClientFrame | ServerFrame], None] = lambda end, frame: None
    on_event: Callable[[str, CallerEvent | OwnerEvent], None] = lambda end, event: None

    def __post_init__(self) -> None:
        self.now_s = 100.0
        self.caller = CallerSession(peer_id="caller", secret=self.secret)
        self.owner: OwnerSession | None = None
        self.token = b""
        self.tokens_made = 0
        self.handshake: OwnerHandshake | None = None
        self.to_owner: list[bytes] = []
        self.to_caller: list[bytes] = []
        self.caller_events: list[CallerEvent] = []
        self.owner_events: list[OwnerEvent] = []

    # -- the carrier --------------------------------------------------------------------------------------------------
    @property
    def is_connected(self) -> bool:
        return self.handshake is not None

    def connect(self) -> None:
        """A new carrier, and the handshake on it, to the end."""
        self.dial()
        self.exchange()

    def dial(self) -> None:
        """A new carrier: the owner's challenge is on its way."""
        assert not self.is_connected
        self.handshake = OwnerHandshake(peer_id="owner", secret=self.secret, nonce=b"o" * 16)
        self.caller.attach(b"c" * 16, self.now_s)
        self._send_to_caller(self.handshake.challenge())

    def disconnect(self) -> None:
        """The carrier is lost, with all that is on its way."""
        assert self.is_connected
        self.handshake = None
        self.to_owner.clear()
        self.to_caller.clear()
        self._tell_caller(self.caller.detach(self.now_s))
        if self.owner is not None and self.owner.state is OwnerLink.ATTACHED:
            self.owner.detach()

    def lose_session(self) -> None:
        """The owner forgets the session, as after a restart. Only while disconnected."""
        assert not self.is_connected
        if self.owner is not None:
            self.owner.lose()
        self.owner = None
        self.token = b""

    def go_away(self, error: Error | None = None) -> None:
        self._send_to_caller(ServerFrame(go_away=GoAway(error=error)).SerializeToString())

    # -- frames -------------------------------------------------------------------------------------------------------
    def flush_caller(self) -> None:
        if self.is_connected:
            for frame in self.caller.take_frames(self.now_s):
                self.on_frame("caller", ClientFrame.FromString(frame))
                self.to_owner.append(frame)

    def flush_owner(self) -> None:
        if self.owner is not None and self.owner.state is OwnerLink.ATTACHED and self.owner.has_output:
            for frame in self.owner.take_frames():
                self._send_to_caller(frame)

    def deliver_to_owner(self) -> None:
        """The oldest frame on its way to the owner arrives."""
        frame = self.to_owner.pop(0)
        if self.owner is not None and self.owner.state is OwnerLink.ATTACHED:
            self._tell_owner(self.owner.receive(frame, self.now_s))
        else:
            self._admit(frame)

    def deliver_to_caller(self, index: int = 0) -> None:
        """A frame on its way to the caller arrives: the oldest one, unless the carrier reorders."""
        events = self.caller.receive(self.to_caller.pop(index), self.now_s)
        self._tell_caller(events)
        if any(isinstance(event, Refused) for event in events):
            self.disconnect()

    def exchange(self) -> None:
        """Deliver everything, at both ends, until all is quiet."""
        for _ in range(100):
            self.flush_caller()
            self.flush_owner()
            if not self.to_owner and not self.to_caller:
                return
            while self.to_owner:
                self.deliver_to_owner()
            while self.to_caller:
                self.deliver_to_caller()
        raise AssertionError("the two ends never come to rest")

    # -- time ---------------------------------------------------------------------------------------------------------
    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self._tell_caller(self.caller.tick(self.now_s))

    def stop(self, seconds: float) -> None:
        """The caller's process does not run for a while: no tick, and its first one is still to come."""
        self.now_s += seconds

    def expire(self) -> None:
        """What has been read is about to be served."""
        self._tell_caller(self.caller.expire(self.now_s))

    # -- looking ------------------------------------------------------------------------------------------------------
    def take_caller_events(self) -> list[CallerEvent]:
        events, self.caller_events = self.caller_events, []
        return events

    def take_owner_events(self) -> list[OwnerEvent]:
        events, self.owner_events = self.owner_events, []
        return events

    @property
    def is_open(self) -> bool:
        return self.caller.state is CallerLink.OPEN

    def _admit(self, frame: bytes) -> None:
        assert self.handshake is not None
        hello = self.handshake.receive(frame)
        is_resumed = self.owner is not None and bool(self.token) and hello.resume_token == self.token
        if not is_resumed:
            if self.owner is not None:
                self.owner.lose()
            self.owner = OwnerSession(peer_id=hello.peer_id, limits=self.limits, now_s=self.now_s)
            self.tokens_made += 1
            self.token = f"token {self.tokens_made}".encode().ljust(16)
        assert self.owner is not None
        welcome = self.handshake.welcome(
            hello,
            epoch=self.epoch,
            slot_map_version=7,
            resume_token=self.token,
            is_resumed=is_resumed,
            read_lease_ms=self.read_lease_ms,
        )
        self._send_to_caller(welcome)
        self.owner.attach(self.now_s)

    def _send_to_caller(self, frame: bytes) -> None:
        self.on_frame("owner", ServerFrame.FromString(frame))
        self.to_caller.append(frame)

    def _tell_caller(self, events: list[CallerEvent]) -> None:
        for event in events:
            self.caller_events.append(event)
            self.on_event("caller", event)

    def _tell_owner(self, events: list[OwnerEvent]) -> None:
        for event in events:
            self.owner_events.append(event)
            self.on_event("owner", event)
