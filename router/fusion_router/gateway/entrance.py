"""The entrance of clients: a gateway in front of a member."""

from __future__ import annotations

from fusion_router.entrances import Entrance
from fusion_router.gateway.gateway import Gateway
from fusion_router.gateway.limits import GatewayLimits
from fusion_router.host import ClusterHost


class GatewayEntrance(Entrance):
    """Serves clients over gRPC.

    Args:
        host: the host whose services are called.
        address: see `Gateway`.
        insecure: see `Gateway`.
        limits: see `Gateway`.

    Attributes:
        gateway: the server.
    """

    def __init__(
        self,
        host: ClusterHost,
        *,
        address: str,
        insecure: bool = False,
        limits: GatewayLimits | None = None,
    ) -> None:
        super().__init__(host, secret=None)
        self.gateway = Gateway(host, acceptor=self.acceptor, address=address, insecure=insecure, limits=limits)
        self._grace_s = 0.0
        self._runtime = host.runtime

    async def open(self) -> str:
        """Listen; return the address, with the actual port."""
        return await self.gateway.start()

    async def leave(self) -> None:
        """Report NOT_SERVING, end the streams of watches, and refuse new ones: their clients go to another gateway."""
        await self.gateway.leave()

    async def drain(self, grace_s: float) -> None:
        """Wait until the running commands of sessions and of single calls have ended, at most for `grace_s` seconds."""
        self._grace_s = grace_s
        await self._runtime.gather((super().drain(grace_s), self.gateway.drain(grace_s)), name="drain a gateway")

    async def close(self) -> None:
        """End all sessions and the server; calls in flight finish within the time that `drain` was given."""
        self.serving.close()
        await self.gateway.stop(self._grace_s)
