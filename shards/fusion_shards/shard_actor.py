"""The shard actor: a process that owns slots, computes their keys and serves links.

Ray restarts it when its process dies: `__init__` runs again, the shard takes a new epoch from the coordinator and
registers its new address. Its graph starts empty, which is always correct: cached results are derived data.
"""

from __future__ import annotations

import asyncio

from fusion_cluster.protocol.coordination import MemberId
from fusion_cluster.protocol.slot_map import ShardAddress
from fusion_cluster.runtime import SYSTEM
from fusion_router.entrances import LinkEntrance
from fusion_router.member import Member
from fusion_shards.configuration import AppConfiguration, MemberDescription, MemberStatus
from fusion_shards.control import Actor, CoordinatorMaps, persist
from fusion_shards.member import import_configured_app, new_host, node_address, status_of, watch_loop
from fusion_shards.verifying import VerifiedMember


class Shard(VerifiedMember):
    """One shard; a Ray actor by `ray.remote(Shard)`.

    Args:
        configuration: the configuration of the app.
        shard_id: which shard.
        coordinator: handle of the app's coordinator.
    """

    def __init__(self, configuration: AppConfiguration, shard_id: int, coordinator: Actor) -> None:
        self._configuration = configuration
        self._shard_id = shard_id
        self._coordinator = coordinator
        self._address: ShardAddress
        self._member: Member
        self._entrance: LinkEntrance
        self._watch = watch_loop(f"shard {shard_id}", configuration)
        self._started = SYSTEM.create_task(self._start(), name="start the member")

    async def _start(self) -> None:
        epoch: int = await persist(lambda: self._coordinator.new_epoch.remote("shard", self._shard_id))
        app = import_configured_app(self._configuration)
        peer_id = f"{app.name}/shard-{self._shard_id}.{epoch}"
        host = new_host(app, self._configuration, peer_id, shard_id=self._shard_id, epoch=epoch)
        self._entrance = LinkEntrance(host, secret=self._configuration.secret, address=node_address())
        self._member = Member(
            host,
            entrances=[self._entrance],
            slot_maps=CoordinatorMaps(self._coordinator, self._addressed),
            database=app.database,
        )
        await self._member.start()
        self._begin_verifying(MemberId("shard", self._shard_id))

    def _addressed(self, address: str) -> ShardAddress:
        """Return this shard's address for the coordinator."""
        name, _, port = address.rpartition(":")
        self._address = ShardAddress(self._shard_id, name, int(port), self._member.host.epoch)
        return self._address

    async def describe(self) -> MemberDescription:
        """Wait until this shard listens; return its address and epoch.

        Raises:
            UsageError: the app cannot be imported.
        """
        await asyncio.shield(self._started)
        return MemberDescription(self._address.epoch, self._address)

    async def watch(self, epoch: int) -> None:
        """Return when the incarnation of that epoch is over: never in that incarnation itself, at once in a successor.

        The call fails when this process dies.
        """
        await asyncio.shield(self._started)
        if epoch == self._address.epoch:
            await asyncio.Event().wait()

    async def status(self) -> MemberStatus:
        """Return the status of this shard for `fusion-cluster status`."""
        await asyncio.shield(self._started)
        address = f"{self._address.host}:{self._address.port}"
        return status_of("shard", self._shard_id, self._member.host, self._entrance.serving, address)

    async def stop(self) -> None:
        """Leave: finish the commands in flight, close the links and the database."""
        await asyncio.shield(self._started)
        self._watch.stop()
        await self._member.stop()
