"""The owner's end of links: admits carriers to sessions, and keeps the sessions while carriers come and go.

Invariant: callbacks name a session only from `on_session` until `on_session_lost`. A carrier touches a session only
after its caller has proved its identity.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from fusion_cluster.errors import HandshakeRefused, ProtocolError
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.served_session import ServedSession, SessionHandler, go_away_frame
from fusion_cluster.protocol.handshake import OwnerHandshake
from fusion_cluster.protocol.limits import MAX_FRAME_SIZE, MAX_HANDSHAKE_FRAME_SIZE, NONCE_SIZE, SessionLimits
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.v1.session_pb2 import Error, Hello

logger = logging.getLogger(__name__)

__all__ = ["AcceptorLimits", "ServedSession", "SessionAcceptor", "SessionHandler"]

# google.rpc.Code
INVALID_ARGUMENT: Final = 3
RESOURCE_EXHAUSTED: Final = 8
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16


@dataclass(frozen=True, slots=True)
class AcceptorLimits:
    """Bounds of one acceptor.

    Attributes:
        max_sessions: sessions, attached and detached; further callers get an error that asks them to try later.
        max_detached: sessions without a carrier; above that, the one that lost its carrier first is lost.
        detached_s: how long a session without a carrier can be resumed.
        max_handshakes: carriers that have not sent Hello yet; further ones are closed.
        handshake_s: how long a carrier may take to send Hello.
        session: bounds of each session.
    """

    max_sessions: int = 10_000
    max_detached: int = 1_000
    detached_s: float = 10.0
    max_handshakes: int = 1_000
    handshake_s: float = 5.0
    session: SessionLimits = field(default_factory=SessionLimits)


class SessionAcceptor:
    """Serves sessions over the carriers that it accepts.

    Args:
        handler: answers the calls.
        peer_id: names this process.
        secret: the cluster secret, which callers must prove that they know; None: callers are not checked.
        read_lease_s: how long a caller may serve replicas without a frame from here. A caller that is silent for two
            read leases loses its carrier.
        limits: bounds.
        runtime: the clock of leases and bounds, and the random numbers of handshakes.
    """

    def __init__(
        self,
        handler: SessionHandler,
        *,
        peer_id: str,
        secret: bytes | None = None,
        read_lease_s: float = 3.0,
        limits: AcceptorLimits | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._handler = handler
        self._peer_id = peer_id
        self._secret = secret
        self._read_lease_s = read_lease_s
        self._limits = limits or AcceptorLimits()
        self._clock = runtime.clock.monotonic
        self._entropy = runtime.entropy
        # Resume token -> session, until it is lost; in the order of last attachment.
        self._sessions: dict[bytes, ServedSession] = {}
        # Carriers that have not sent Hello -> when they were accepted.
        self._admissions: dict[Carrier, float] = {}
        # Carriers that have not ended.
        self._carriers: set[Carrier] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._all_ended: asyncio.Future[None] | None = None

    @property
    def sessions(self) -> list[ServedSession]:
        """The sessions that are attached or can be resumed."""
        return list(self._sessions.values())

    def accept(self, carrier: Carrier) -> None:
        """Serve a carrier that a caller has dialled."""
        if self._is_closed or len(self._admissions) >= self._limits.max_handshakes:
            carrier.close()
            return
        now_s = self._clock()
        nonce = self._entropy.token_bytes(NONCE_SIZE)
        handshake = OwnerHandshake(peer_id=self._peer_id, secret=self._secret, nonce=nonce)
        self._carriers.add(carrier)
        self._admissions[carrier] = now_s
        carrier.max_frame_size = MAX_HANDSHAKE_FRAME_SIZE
        carrier.start(
            on_frame=partial(self._on_hello, carrier, handshake),
            on_closed=partial(self._on_unadmitted_closed, carrier),
        )
        carrier.send(handshake.challenge())
        self._ensure_ticking()

    async def close(self) -> None:
        """Send all callers away, end all sessions and carriers, and wait up to 2 s for the end of the carriers."""
        self._is_closed = True
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for carrier in list(self._admissions):
            carrier.close()
        for session in self.sessions:
            session.close("the process is shutting down")
        if self._carriers:
            self._all_ended = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_ended], timeout=2.0)

    # -- admission ----------------------------------------------------------------------------------------------------
    def _on_hello(self, carrier: Carrier, handshake: OwnerHandshake, frame: bytes) -> None:
        if self._admissions.pop(carrier, None) is None:
            return
        try:
            hello = handshake.receive(frame)
        except HandshakeRefused as error:
            logger.warning("a caller was refused: %s", error)
            self._refuse(carrier, Error(code=UNAUTHENTICATED, type="HandshakeRefused", message=str(error)))
        except ProtocolError as error:
            self._refuse(carrier, Error(code=INVALID_ARGUMENT, type="RemoteProtocolError", message=str(error)))
        else:
            self._admit(carrier, handshake, hello)

    def _admit(self, carrier: Carrier, handshake: OwnerHandshake, hello: Hello) -> None:
        session = self._sessions.get(hello.resume_token) if hello.resume_token else None
        if session is not None and session.peer_id != hello.peer_id:
            session = None
        is_resumed = session is not None
        if session is None:
            if len(self._sessions) >= self._limits.max_sessions:
                full = Error(code=RESOURCE_EXHAUSTED, type="Overloaded", message="too many sessions", transient=True)
                self._refuse(carrier, full)
                return
            session = ServedSession(
                self._handler,
                peer_id=hello.peer_id,
                resume_token=self._entropy.token_bytes(NONCE_SIZE),
                limits=self._limits.session,
                clock=self._clock,
                on_lost=self._on_lost,
                on_detached=self._on_detached,
                on_carrier_ended=self._on_carrier_ended,
            )
        else:
            del self._sessions[session.resume_token]
        self._sessions[session.resume_token] = session
        welcome = handshake.welcome(
            hello,
            epoch=self._handler.epoch,
            slot_map_version=self._handler.slot_map_version,
            resume_token=session.resume_token,
            is_resumed=is_resumed,
            read_lease_ms=max(1, round(self._read_lease_s * 1000)),
        )
        carrier.max_frame_size = MAX_FRAME_SIZE
        session.attach(carrier, welcome, is_new=not is_resumed)

    def _refuse(self, carrier: Carrier, error: Error) -> None:
        carrier.send(go_away_frame(error))
        carrier.close()

    def _on_unadmitted_closed(self, carrier: Carrier, error: Exception | None) -> None:
        if isinstance(error, ProtocolError) and carrier in self._admissions:
            violation = Error(code=INVALID_ARGUMENT, type="RemoteProtocolError", message=str(error))
            carrier.send(go_away_frame(violation))
        self._admissions.pop(carrier, None)
        self._on_carrier_ended(carrier)

    # -- lifetime -----------------------------------------------------------------------------------------------------
    def _on_carrier_ended(self, carrier: Carrier) -> None:
        self._carriers.discard(carrier)
        if not self._carriers and self._all_ended is not None and not self._all_ended.done():
            self._all_ended.set_result(None)

    def _on_lost(self, session: ServedSession) -> None:
        self._sessions.pop(session.resume_token, None)

    def _on_detached(self, session: ServedSession) -> None:
        detached = [session for session in self._sessions.values() if not session.is_attached]
        if len(detached) > self._limits.max_detached:
            min(detached, key=lambda session: session.detached_at_s).drop()
        self._ensure_ticking()

    def _ensure_ticking(self) -> None:
        if self._tick is None and not self._is_closed:
            period_s = min(self._read_lease_s, self._limits.handshake_s, self._limits.detached_s) / 4
            self._tick = asyncio.get_running_loop().call_later(period_s, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        now_s = self._clock()
        for carrier, came_at_s in list(self._admissions.items()):
            if now_s - came_at_s > self._limits.handshake_s:
                carrier.close()
        for session in self.sessions:
            if not session.is_attached:
                if now_s - session.detached_at_s > self._limits.detached_s:
                    session.drop()
            elif session.heard_s_ago > 2 * self._read_lease_s:
                session.detach()
        if self._sessions or self._admissions:
            self._ensure_ticking()
