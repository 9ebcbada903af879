"""The gateway actor: a process without slots that serves gRPC and keeps replicas of what its clients read."""

from __future__ import annotations

import asyncio

import ray

from fusion_cluster.addresses import Address
from fusion_cluster.link.acceptor import SessionAcceptor
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_router.gateway import Gateway
from fusion_router.host import ClusterHost
from fusion_router.serving import Serving
from fusion_shards.configuration import AppConfiguration, MemberStatus
from fusion_shards.control import Actor, follow_slot_map, persist
from fusion_shards.member import GRACE_S, import_configured_app, new_host, status_of, watch_loop


class GatewayMember:
    """One gateway; a Ray actor by `ray.remote(GatewayMember)`.

    Args:
        configuration: the app's.
        gateway_id: which gateway.
        coordinator: handle of the app's coordinator.
    """

    def __init__(self, configuration: AppConfiguration, gateway_id: int, coordinator: Actor) -> None:
        self._configuration = configuration
        self._gateway_id = gateway_id
        self._coordinator = coordinator
        self._address: str
        self._host: ClusterHost
        self._serving: Serving
        self._gateway: Gateway
        self._following: asyncio.Task[None]
        self._watch = watch_loop(f"gateway {gateway_id}", configuration)
        self._started = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        configuration = self._configuration
        epoch: int = await persist(lambda: self._coordinator.new_epoch.remote("gateway", self._gateway_id))
        app = import_configured_app(configuration)
        peer_id = f"{app.name}/gateway-{self._gateway_id}.{epoch}"
        self._host = new_host(app, configuration, peer_id, epoch=epoch)
        encoded = await persist(lambda: self._coordinator.slot_map.remote(0, 0.0))
        self._host.set_slot_map(SlotMap.decode(encoded))
        self._following = asyncio.get_running_loop().create_task(follow_slot_map(self._host, self._coordinator))
        self._serving = Serving(self._host, self._host.barriers, accepts_invalidations=False)
        acceptor = SessionAcceptor(self._serving, peer_id=peer_id, secret=None, read_lease_s=configuration.read_lease_s)
        has_own_host = "fusion_gateway" in ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
        port = configuration.gateway_port(self._gateway_id, has_own_host=has_own_host)
        self._gateway = Gateway(
            self._host,
            acceptor=acceptor,
            address=str(Address(configuration.grpc_host, port)),
            insecure=configuration.insecure,
        )
        self._address = await self._gateway.start()

    async def describe(self) -> str:
        """The address it listens on; waits until it does.

        Raises:
            UsageError: the app cannot be imported, or the address is not free.
        """
        await asyncio.shield(self._started)
        return self._address

    async def watch(self) -> None:
        """Never return: the call fails when this process dies."""
        await asyncio.Event().wait()

    async def status(self) -> MemberStatus:
        """What `fusion-cluster status` shows of this gateway."""
        await asyncio.shield(self._started)
        return status_of("gateway", self._gateway_id, self._host, self._serving, self._address)

    async def stop(self) -> None:
        """Leave: finish the calls in flight, end the streams, close the links."""
        await asyncio.shield(self._started)
        self._watch.stop()
        self._following.cancel()
        await self._serving.drain(GRACE_S)
        await self._gateway.stop(GRACE_S)
        await self._host.close()
