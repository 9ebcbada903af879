"""Entrances, where callers reach a member: one for other members, over links; one for clients, at a gateway.

Invariant: an entrance that is leaving admits no new caller; a closed one has notified its callers, and runs no command
whose caller could still get the result.
"""

from __future__ import annotations

from fusion_cluster.link.acceptor import SessionAcceptor
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.tcp import TcpListener, listen_tcp
from fusion_router.host import ClusterHost
from fusion_router.serving import Serving

ROLLBACK_S = 2.0
"""How long a cancelled command may take to end."""


class Entrance:
    """Serves the sessions of its callers, over carriers that it is given.

    Args:
        host: the host whose services are called.
        secret: the cluster secret, which callers must prove; None: the callers are clients, which have none.

    Attributes:
        serving: answers the calls.
        acceptor: keeps the sessions.
        is_for_members: callers are other members, which may ask for invalidations.
    """

    def __init__(self, host: ClusterHost, *, secret: bytes | None) -> None:
        self.is_for_members = secret is not None
        self.serving = Serving(host, host.barriers, accepts_invalidations=self.is_for_members)
        self.acceptor = SessionAcceptor(
            self.serving,
            peer_id=host.peer_id,
            secret=secret,
            read_lease_s=host.barriers.read_lease_s,
            runtime=host.runtime,
        )

    def accept(self, carrier: Carrier) -> None:
        """Serve a caller over a carrier."""
        self.acceptor.accept(carrier)

    async def open(self) -> str:
        """Begin to admit callers.

        Returns:
            The address for callers; "" if carriers come only through `accept`.
        """
        return ""

    async def leave(self) -> None:
        """Admit no new callers, and tell those that ask. Sessions go on."""

    async def drain(self, grace_s: float) -> None:
        """Wait until the commands that run have ended, at most for `grace_s` seconds."""
        await self.serving.drain(grace_s)

    async def close(self) -> None:
        """Cancel the commands that still run, and end all sessions: callers are sent elsewhere."""
        self.serving.close()
        await self.acceptor.close()

    async def ended(self) -> None:
        """Wait a moment for the end of cancelled commands: they may still roll back."""
        await self.serving.drain(ROLLBACK_S)


class LinkEntrance(Entrance):
    """Listens for links over TCP.

    Args:
        host: the host whose services are called.
        secret: the cluster secret.
        address: the address of this machine to listen on.
        port: the port to listen on; 0: any free port.
    """

    def __init__(self, host: ClusterHost, *, secret: bytes, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, secret=secret)
        self._wanted = address, port
        self._listener: TcpListener | None = None

    async def open(self) -> str:
        """Listen."""
        address, port = self._wanted
        self._listener = await listen_tcp(self.acceptor, address, port)
        address, port = self._listener.address
        return f"{address}:{port}"

    async def leave(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            await self._listener.close()
