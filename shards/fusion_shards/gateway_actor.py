"""The gateway actor: a process without slots that serves gRPC and keeps replicas of what its clients read."""

from __future__ import annotations

import asyncio

import ray

from fusion_cluster.addresses import Address
from fusion_cluster.protocol.coordination import MemberId
from fusion_cluster.runtime import SYSTEM
from fusion_router.gateway import GatewayEntrance
from fusion_router.member import Member
from fusion_shards.configuration import AppConfiguration, MemberDescription, MemberStatus
from fusion_shards.control import Actor, CoordinatorMaps, persist
from fusion_shards.member import import_configured_app, new_host, status_of, watch_loop
from fusion_shards.verifying import VerifiedMember


class GatewayMember(VerifiedMember):
    """One gateway; a Ray actor by `ray.remote(GatewayMember)`.

    Args:
        configuration: the configuration of the app.
        gateway_id: which gateway.
        coordinator: handle of the app's coordinator.
    """

    def __init__(self, configuration: AppConfiguration, gateway_id: int, coordinator: Actor) -> None:
        self._configuration = configuration
        self._gateway_id = gateway_id
        self._coordinator = coordinator
        self._member: Member
        self._entrance: GatewayEntrance
        self._watch = watch_loop(f"gateway {gateway_id}", configuration)
        self._started = SYSTEM.create_task(self._start(), name="start the member")

    async def _start(self) -> None:
        configuration = self._configuration
        epoch: int = await persist(lambda: self._coordinator.new_epoch.remote("gateway", self._gateway_id))
        app = import_configured_app(configuration)
        host = new_host(app, configuration, f"{app.name}/gateway-{self._gateway_id}.{epoch}", epoch=epoch)
        has_own_host = "fusion_gateway" in ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
        port = configuration.gateway_port(self._gateway_id, has_own_host=has_own_host)
        self._entrance = GatewayEntrance(
            host, address=str(Address(configuration.grpc_host, port)), insecure=configuration.insecure
        )
        self._member = Member(
            host,
            entrances=[self._entrance],
            slot_maps=CoordinatorMaps(self._coordinator),
            database=app.database,
        )
        await self._member.start()
        self._begin_verifying(MemberId("gateway", self._gateway_id))

    async def describe(self) -> MemberDescription:
        """Wait until this gateway serves; return its epoch.

        Raises:
            UsageError: the app cannot be imported, or the address is not free.
        """
        await asyncio.shield(self._started)
        return MemberDescription(self._member.host.epoch)

    async def watch(self, epoch: int) -> None:
        """Return when the incarnation of that epoch is over, as `Shard.watch` does."""
        await asyncio.shield(self._started)
        if epoch == self._member.host.epoch:
            await asyncio.Event().wait()

    async def status(self) -> MemberStatus:
        """Return the status of this gateway for `fusion-cluster status`."""
        await asyncio.shield(self._started)
        return status_of("gateway", self._gateway_id, self._member.host, self._entrance.serving, self._member.address)

    async def stop(self) -> None:
        """Leave: finish the calls in flight, end the streams, close the links."""
        await asyncio.shield(self._started)
        self._watch.stop()
        await self._member.stop()
