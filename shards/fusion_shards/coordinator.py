"""The coordinator: a detached, named, restartable Ray actor, and the one writer of the slot map.

It starts the shards and gateways, watches each through a call that never returns, and publishes a new slot map when one
registers or dies. It holds nothing that cannot be asked back: after its own restart it describes the members that live,
and until then keeps its map from those who have one. While it is down, traffic flows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from fusion_cluster.errors import UsageError
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_shards.configuration import AppConfiguration, ClusterStatus, MemberStatus, Role
from fusion_shards.control import PAUSE_S, Actor
from fusion_shards.gateway_actor import GatewayMember
from fusion_shards.member import watch_loop
from fusion_shards.names import gateway_name, shard_name
from fusion_shards.shard_actor import Shard

logger = logging.getLogger(__name__)

MemberId = tuple[Role, int]

STATUS_TIMEOUT_S = 2.0

START_ATTEMPTS = 3
"""How often the process of a member may end before it was ever up; then the launch fails."""

RESTART_PAUSE_S = 1.0
"""Pause before a member that was up, and whose process came back but could not serve, is started again."""

WHOLE_MAP_TIMEOUT_S = 10.0
"""How long a new coordinator waits for all the shards before it tells those who have a map already."""


class Coordinator:
    """The coordinator of one app; a Ray actor by `ray.remote(Coordinator)`.

    Args:
        configuration: the app's.
    """

    def __init__(self, configuration: AppConfiguration) -> None:
        self._configuration = configuration
        self._watch = watch_loop("the coordinator", configuration)
        # Versions start at the clock, so that they rise over the coordinator's own restarts.
        self._slot_map = SlotMap.even(range(configuration.shards), version=time.time_ns() // 1_000_000)
        self._slot_map_changed = asyncio.Event()
        # Set when every shard is in the map, or has been waited for long enough.
        self._map_is_whole = asyncio.Event()
        asyncio.get_running_loop().call_later(WHOLE_MAP_TIMEOUT_S, self._map_is_whole.set)
        # A successor does not know how far its predecessor has counted: it goes on from the clock, in seconds.
        self._succeeds = was_restarted()
        self._last_unknown_epoch = int(time.time()) if self._succeeds else 0
        self._epochs: dict[MemberId, int] = {}
        self._members: dict[MemberId, Actor] = {}
        self._is_up: dict[MemberId, asyncio.Event] = {}
        self._were_up: set[MemberId] = set()
        # Why members cannot start at all; such a launch fails at once instead of being retried.
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shards: list[MemberId] = [("shard", i) for i in range(configuration.shards)]
        gateways: list[MemberId] = [("gateway", i) for i in range(configuration.gateways)]
        members = shards + gateways
        for member in members:
            self._is_up[member] = asyncio.Event()
        self._supervisions = [asyncio.get_running_loop().create_task(self._supervise(member)) for member in members]

    # -- called by the launcher and by drivers ----------------------------------------------------------------------
    async def configuration(self) -> AppConfiguration:
        """What the app was launched with, for drivers that join."""
        return self._configuration

    async def wait_until_up(self) -> ClusterStatus:
        """Wait until every member serves.

        Raises:
            UsageError: a member cannot start: the app cannot be imported, an address is not free, ...
        """
        everyone = asyncio.gather(*(event.wait() for event in self._is_up.values()))
        outcomes: list[asyncio.Future[Any]] = [everyone, self._failure]
        await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            everyone.cancel()
            await asyncio.gather(everyone, return_exceptions=True)
            self._failure.result()
        return await self.status()

    async def status(self) -> ClusterStatus:
        """Ask every member how it is; those that do not answer in time are shown as down."""

        async def ask(member: MemberId) -> MemberStatus:
            try:
                return await asyncio.wait_for(self._members[member].status.remote(), STATUS_TIMEOUT_S)
            except (RayActorError, RayTaskError, TimeoutError, KeyError):
                return MemberStatus(role=member[0], member_id=member[1])

        members = await asyncio.gather(*(ask(member) for member in self._is_up))
        return ClusterStatus(self._configuration.app_name, self._slot_map.version, tuple(members))

    async def stop(self) -> None:
        """Stop every member, gateways first; the launcher then ends this actor."""
        self._watch.stop()
        for supervision in self._supervisions:
            supervision.cancel()
        for role in ("gateway", "shard"):
            actors = [actor for member, actor in self._members.items() if member[0] == role]
            await asyncio.gather(*(self._stop(actor) for actor in actors))

    # -- called by members ----------------------------------------------------------------------
    async def new_epoch(self, role: Role, member_id: int) -> int:
        """The next incarnation number of a member; the first thing that its process asks for."""
        member: MemberId = (role, member_id)
        epoch = self._epochs[member] = self._epochs.get(member, self._last_unknown_epoch) + 1
        if epoch > START_ATTEMPTS and not self._has_been_up(member):
            self._fail(f"{role} {member_id} cannot start: its process has ended {epoch - 1} times; Ray's logs say why")
        return epoch

    async def register(self, address: ShardAddress) -> bytes:
        """A shard listens: put it into the map, and return the map."""
        self._admit(address)
        return self._slot_map.encode()

    async def slot_map(self, newer_than: int, timeout_s: float) -> bytes:
        """The slot map, once it is newer than a version or the time is up.

        A caller that has a map is not told of one that lacks shards only because this coordinator has just begun.
        """
        if newer_than:
            await self._map_is_whole.wait()
        deadline_s = time.monotonic() + timeout_s
        while self._slot_map.version <= newer_than and (remaining_s := deadline_s - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._slot_map_changed.wait(), remaining_s)
            except TimeoutError:
                break
        return self._slot_map.encode()

    # -- supervision ----------------------------------------------------------------------
    async def _supervise(self, member: MemberId) -> None:
        role, member_id = member
        watched: ShardAddress | str | None = None
        while True:
            try:
                actor = self._members[member] = self._get_or_start(member)
                watched = await actor.describe.remote()
                if isinstance(watched, ShardAddress):
                    self._admit(watched)
                self._is_up[member].set()
                self._were_up.add(member)
                await actor.watch.remote()
            except RayActorError as error:
                logger.warning("%s %d is down: %s", role, member_id, type(error).__name__)
                self._is_up[member].clear()
                # Its successor may have registered before Ray told us: that one stays.
                if isinstance(watched, ShardAddress) and self._slot_map.shards.get(member_id) == watched:
                    self._publish(self._slot_map.without_shard(member_id))
            except RayTaskError as error:
                reason = f"{role} {member_id} cannot start: {error.cause}"
                if not self._has_been_up(member):
                    self._fail(reason)
                    return
                logger.error("%s; trying again", reason)
                self._is_up[member].clear()
                ray.kill(self._members[member], no_restart=False)
                await asyncio.sleep(RESTART_PAUSE_S)
            await asyncio.sleep(PAUSE_S)

    def _has_been_up(self, member: MemberId) -> bool:
        """Whether it has served before, so that what keeps it from it now may go away."""
        return self._succeeds or member in self._were_up

    def _get_or_start(self, member: MemberId) -> Actor:
        role, member_id = member
        configuration = self._configuration
        kind: Any = Shard if role == "shard" else GatewayMember
        name = shard_name if role == "shard" else gateway_name
        options = {
            "name": name(configuration.app_name, member_id),
            "namespace": configuration.namespace,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_concurrency": 1000,
            "num_cpus": configuration.cpus_per_shard,
            "scheduling_strategy": "SPREAD",
            "enable_task_events": False,
        }
        # Hosts that are meant for one kind of member say so by a custom resource; where none does, any host will do.
        resource = f"fusion_{role}"
        if resource in ray.cluster_resources():  # type: ignore[no-untyped-call]
            options["resources"] = {resource: 1}
        coordinator = ray.get_runtime_context().current_actor
        actor: Actor = ray.remote(kind).options(**options).remote(configuration, member_id, coordinator)
        return actor

    async def _stop(self, actor: Actor) -> None:
        try:
            await asyncio.wait_for(actor.stop.remote(), 5.0)
        except (RayActorError, RayTaskError, TimeoutError) as error:
            logger.warning("a member did not stop in good order: %r", error)
        ray.kill(actor, no_restart=True)

    def _fail(self, reason: str) -> None:
        logger.error(reason)
        if not self._failure.done():
            self._failure.set_exception(UsageError(reason))

    # -- the slot map ----------------------------------------------------------------------
    def _admit(self, address: ShardAddress) -> None:
        member: MemberId = ("shard", address.shard_id)
        self._epochs[member] = max(self._epochs.get(member, 0), address.epoch)
        known = self._slot_map.shards.get(address.shard_id)
        if address.epoch == self._epochs[member] and known != address:
            self._publish(self._slot_map.with_shard(address))

    def _publish(self, slot_map: SlotMap) -> None:
        self._slot_map = slot_map
        if len(slot_map.shards) == self._configuration.shards:
            self._map_is_whole.set()
        changed, self._slot_map_changed = self._slot_map_changed, asyncio.Event()
        changed.set()


def was_restarted() -> bool:
    """Whether the actor that runs here takes the place of one that has ended."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)
