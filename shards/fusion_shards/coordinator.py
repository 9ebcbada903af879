"""The coordinator: a detached, named, restartable Ray actor, and the one writer of the slot map.

It makes no decisions: `protocol.coordination` does. All of its state can be recovered: after its own restart the living
members describe themselves. Traffic flows while it is down.
"""

from __future__ import annotations

import ray

from fusion_cluster.protocol.coordination import Coordination, MemberId, Registered, Role
from fusion_cluster.protocol.slot_map import ShardAddress
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_router.coordinating import CoordinationLoop
from fusion_shards.configuration import AppConfiguration, ClusterStatus
from fusion_shards.control_plane import RayControlPlane
from fusion_shards.member import watch_loop


class Coordinator:
    """The coordinator of one app; a Ray actor by `ray.remote(Coordinator)`.

    Args:
        configuration: the configuration of the app.
        runtime: gives the time.
    """

    def __init__(self, configuration: AppConfiguration, *, runtime: Runtime = SYSTEM) -> None:
        self._configuration = configuration
        self._runtime = runtime
        self._watch = watch_loop("the coordinator", configuration)
        self._plane = RayControlPlane(configuration, runtime=runtime)
        succeeds = was_restarted()
        wall_s = runtime.clock.wall()
        # A successor does not know the last numbers of its predecessor. Versions go on from the clock in milliseconds,
        # epochs from the clock in seconds.
        coordination = Coordination(
            shards=configuration.shards,
            gateways=configuration.gateways,
            first_version=int(wall_s * 1000),
            succeeds=succeeds,
            last_epoch=int(wall_s) if succeeds else 0,
        )
        self._loop = CoordinationLoop(coordination, self._plane)
        self._loop.begin()

    # -- called by the launcher and by drivers ----------------------------------------------------------------------
    async def configuration(self) -> AppConfiguration:
        """Return the configuration of the launch, for drivers that join."""
        return self._configuration

    async def wait_until_up(self) -> ClusterStatus:
        """Wait until every member serves.

        Raises:
            UsageError: a member cannot start: the app cannot be imported, an address is not free, ...
        """
        await self._loop.wait_until_launched()
        return await self.status()

    async def status(self) -> ClusterStatus:
        """Ask every member for its status; members that do not answer in time are shown as down."""
        asked = map(self._plane.status, self._loop.coordination.members)
        members = await self._runtime.gather(asked, name="ask a member how it is")
        return ClusterStatus(self._configuration.app_name, self._loop.slot_map.version, tuple(members))

    async def stop(self) -> None:
        """Stop every member, gateways first; the launcher then ends this actor."""
        self._watch.stop()
        await self._loop.stop()
        await self._plane.close()

    # -- called by members ----------------------------------------------------------------------
    async def new_epoch(self, role: Role, member_id: int) -> int:
        """Return the next incarnation number of a member; its process asks for it first."""
        return await self._loop.next_epoch(MemberId(role, member_id))

    async def register(self, address: ShardAddress) -> bytes:
        """Put a shard that listens into the map, and return the map."""
        self._loop.report(Registered(address))
        return self._loop.slot_map.encode()

    async def slot_map(self, newer_than: int, timeout_s: float) -> bytes | None:
        """Return the slot map once it is newer than a version; None: there is none by the end of the time.

        A caller that has a map does not get one that lacks shards only because this coordinator has just begun.

        Args:
            newer_than: the version the caller has; 0: none, so any map will do.
            timeout_s: how long to wait.
        """
        slot_map = await self._loop.next_map(newer_than, timeout_s)
        return None if slot_map is None else slot_map.encode()


def was_restarted() -> bool:
    """Whether the actor that runs here takes the place of one that has ended."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)
