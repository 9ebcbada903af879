"""Owners' ends for tests of links: a handler that writes down what it is told, and ways to dial it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fusion_cluster.link import Carrier, MemoryCarrier, Peer, ServedSession, SessionAcceptor, memory_pair
from fusion_cluster.protocol.edge_chasing import Probe
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.v1.session_pb2 import Call, Invalidate


class RecordingHandler:
    """A `SessionHandler` that answers when the test says so, or at once with the arguments (`echoes`)."""

    def __init__(self, *, epoch: int = 1, echoes: bool = False) -> None:
        self.epoch = epoch
        self.slot_map_version = 7
        self.echoes = echoes
        self.sessions: list[ServedSession] = []
        self.calls: list[Call] = []
        self.cancelled: list[int] = []
        self.unsubscribed: list[int] = []
        self.requests: list[Invalidate] = []
        self.settled: list[int] = []
        self.probes: list[tuple[int, Probe]] = []
        self.lost: list[ServedSession] = []

    @property
    def session(self) -> ServedSession:
        """The last one opened."""
        return self.sessions[-1]

    @property
    def called_ids(self) -> list[int]:
        return [call.id for call in self.calls]

    def answer(self, call_id: int, value: bytes, *, subscribed: bool = True) -> None:
        self.session.send_result(call_id, 1, value, subscribed=subscribed)

    def on_session(self, session: ServedSession) -> None:
        self.sessions.append(session)

    def on_calls(self, session: ServedSession, calls: Sequence[Call]) -> None:
        self.calls += calls
        if self.echoes:
            for call in calls:
                session.send_result(call.id, 1, call.arguments, subscribed=True)

    def on_cancelled(self, session: ServedSession, ids: Sequence[int]) -> None:
        self.cancelled += ids

    def on_unsubscribed(self, session: ServedSession, ids: Sequence[int]) -> None:
        self.unsubscribed += ids

    def on_invalidate(self, session: ServedSession, request: Invalidate) -> None:
        self.requests.append(request)

    def on_barrier_answered(self, session: ServedSession, barrier: int, confirms: bool) -> None:
        self.settled.append(barrier)

    def on_probe(self, session: ServedSession, call_id: int, probe: Probe) -> None:
        self.probes.append((call_id, probe))

    def on_session_lost(self, session: ServedSession) -> None:
        self.lost.append(session)


class Owner:
    """An acceptor that is dialled in memory, can be cut off, and can be started again.

    Attributes:
        carriers: the callers' ends of all carriers, oldest first.
        is_reachable: whether dialling succeeds.
    """

    def __init__(
        self,
        handler: RecordingHandler | None = None,
        *,
        secret: bytes | None = b"secret",
        read_lease_s: float = 3.0,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.handler = handler or RecordingHandler()
        self._secret = secret
        self._read_lease_s = read_lease_s
        self._runtime = runtime
        self.carriers: list[MemoryCarrier] = []
        self.is_reachable = True
        self.dial_count = 0
        self.acceptor = self._new_acceptor()

    def _new_acceptor(self) -> SessionAcceptor:
        return SessionAcceptor(
            self.handler, peer_id="owner", secret=self._secret, read_lease_s=self._read_lease_s, runtime=self._runtime
        )

    async def dial(self) -> Carrier:
        self.dial_count += 1
        if not self.is_reachable:
            raise ConnectionRefusedError("nobody listens")
        ours, theirs = memory_pair()
        self.acceptor.accept(theirs)
        self.carriers.append(ours)
        return ours

    def peer(self, *, secret: bytes | None = b"secret", on_barrier: Callable[[Peer, int], None] | None = None) -> Peer:
        return Peer(self.dial, peer_id="caller", secret=secret, on_barrier=on_barrier)

    def cut(self) -> None:
        """Lose the connection of the last carrier, at both ends."""
        self.carriers[-1].cut()

    async def restart(self, handler: RecordingHandler) -> None:
        """A new incarnation: nothing of the old one is left."""
        self.cut()
        await self.acceptor.close()
        self.handler = handler
        self.acceptor = self._new_acceptor()
