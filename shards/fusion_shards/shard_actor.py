"""The shard actor: a process that owns slots, computes their keys and serves links.

Ray restarts it when its process dies: `__init__` runs again, the shard takes a new epoch from the coordinator and
registers its new address. Its graph starts empty, which is always right: cached results are derived data.
"""

from __future__ import annotations

import asyncio

from fusion_cluster.link.acceptor import SessionAcceptor
from fusion_cluster.link.tcp import TcpListener, listen_tcp
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_router.host import ClusterHost
from fusion_router.serving import Serving
from fusion_shards.configuration import AppConfiguration, MemberStatus
from fusion_shards.control import Actor, follow_slot_map, persist
from fusion_shards.member import GRACE_S, import_configured_app, new_host, node_address, status_of, watch_loop


class Shard:
    """One shard; a Ray actor by `ray.remote(Shard)`.

    Args:
        configuration: the app's.
        shard_id: which shard.
        coordinator: handle of the app's coordinator.
    """

    def __init__(self, configuration: AppConfiguration, shard_id: int, coordinator: Actor) -> None:
        self._configuration = configuration
        self._shard_id = shard_id
        self._coordinator = coordinator
        self._address: ShardAddress
        self._host: ClusterHost
        self._serving: Serving
        self._acceptor: SessionAcceptor
        self._listener: TcpListener
        self._following: asyncio.Task[None]
        self._watch = watch_loop(f"shard {shard_id}", configuration)
        self._started = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        epoch: int = await persist(lambda: self._coordinator.new_epoch.remote("shard", self._shard_id))
        app = import_configured_app(self._configuration)
        peer_id = f"{app.name}/shard-{self._shard_id}.{epoch}"
        self._host = new_host(app, self._configuration, peer_id, shard_id=self._shard_id, epoch=epoch)
        await self._host.start()
        self._serving = Serving(self._host, self._host.barriers, accepts_invalidations=True)
        acceptor = self._acceptor = SessionAcceptor(
            self._serving,
            peer_id=peer_id,
            secret=self._configuration.secret,
            read_lease_s=self._configuration.read_lease_s,
        )
        self._listener = await listen_tcp(acceptor, host=node_address())
        host, port = self._listener.address
        self._address = ShardAddress(self._shard_id, host, port, epoch)
        encoded = await persist(lambda: self._coordinator.register.remote(self._address))
        self._host.set_slot_map(SlotMap.decode(encoded))
        self._following = asyncio.get_running_loop().create_task(follow_slot_map(self._host, self._coordinator))

    async def describe(self) -> ShardAddress:
        """Where this shard listens and in which epoch; waits until it does.

        Raises:
            UsageError: the app cannot be imported.
        """
        await asyncio.shield(self._started)
        return self._address

    async def watch(self) -> None:
        """Never return: the call fails when this process dies."""
        await asyncio.Event().wait()

    async def status(self) -> MemberStatus:
        """What `fusion-cluster status` shows of this shard."""
        await asyncio.shield(self._started)
        address = f"{self._address.host}:{self._address.port}"
        return status_of("shard", self._shard_id, self._host, self._serving, address)

    async def stop(self) -> None:
        """Leave: close the links and the database."""
        await asyncio.shield(self._started)
        self._watch.stop()
        self._following.cancel()
        await self._listener.close()
        await self._serving.drain(GRACE_S)
        self._serving.close()
        await self._acceptor.close()
        await self._host.close()
        if self._host.app.database is not None:
            await self._host.app.database.dispose()
