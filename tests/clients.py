"""A cluster with a gateway in front of it, all in this process, for tests of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fusion_cluster.app import App
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway import Gateway, GatewayEntrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member
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

    def __init__(self, cluster: LocalCluster, *, name: str = "gateway") -> None:
        self.cluster = cluster
        self._name = name
        self._epoch = 0
        self.address = "127.0.0.1:0"
        self.gateway: Gateway | None = None
        self._member: Member | None = None

    async def start(self) -> None:
        self._epoch += 1
        self.host = self.cluster.new_host(f"{self._name}.{self._epoch}", epoch=self._epoch)
        entrance = GatewayEntrance(self.host, address=self.address)
        self._member = Member(self.host, entrances=[entrance], grace_s=0.2)
        await self._member.start()
        self.serving, self.gateway, self.address = entrance.serving, entrance.gateway, self._member.address

    async def stop(self) -> None:
        if self._member is not None:
            member, self._member, self.gateway = self._member, None, None
            self.host.graph.validate()
            self.cluster._hosts.remove(self.host)
            await member.stop()


@asynccontextmanager
async def fronted(app: App, *, shards: int = 2, read_lease_s: float = 1.0) -> AsyncIterator[Front]:
    """A local cluster and a gateway on a free port; the invariants of every graph hold at the end."""
    async with LocalCluster(app, shards=shards, read_lease_s=read_lease_s, call_timeout_s=5.0) as cluster:
        front = Front(cluster)
        await front.start()
        try:
            yield front
        finally:
            await front.stop()
        cluster.validate()
