"""A cluster with a gateway in front of it, all in this process, for tests of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fusion_cluster.app import App
from fusion_cluster.link.acceptor import SessionAcceptor
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway import Gateway
from fusion_router.host import ClusterHost
from fusion_router.serving import Serving


class Front:
    """A gateway of a local cluster, which can be stopped and started again at the same address.

    Attributes:
        cluster: the shards.
        host: the router behind the gateway; a new one, with a new epoch, after each start.
        address: where clients connect.
    """

    host: ClusterHost
    serving: Serving

    def __init__(self, cluster: LocalCluster, *, read_lease_s: float, name: str = "gateway") -> None:
        self.cluster = cluster
        self._read_lease_s = read_lease_s
        self._name = name
        self._epoch = 0
        self.address = "127.0.0.1:0"
        self.gateway: Gateway | None = None

    async def start(self) -> None:
        self._epoch += 1
        self.host = self.cluster.new_host(f"{self._name}.{self._epoch}", epoch=self._epoch)
        self.serving = Serving(self.host, self.host.barriers, accepts_invalidations=False)
        acceptor = SessionAcceptor(self.serving, peer_id=self.host.peer_id, read_lease_s=self._read_lease_s)
        self.gateway = Gateway(self.host, acceptor=acceptor, address=self.address)
        self.address = await self.gateway.start()

    async def stop(self) -> None:
        if self.gateway is not None:
            gateway, self.gateway = self.gateway, None
            await gateway.stop(0.2)


@asynccontextmanager
async def fronted(app: App, *, shards: int = 2, read_lease_s: float = 1.0) -> AsyncIterator[Front]:
    """A local cluster and a gateway on a free port; the invariants of every graph hold at the end."""
    async with LocalCluster(app, shards=shards, read_lease_s=read_lease_s, call_timeout_s=5.0) as cluster:
        front = Front(cluster, read_lease_s=read_lease_s)
        await front.start()
        try:
            yield front
        finally:
            await front.stop()
        cluster.validate()
