"""The coordinator: a detached, named, restartable Ray actor, and the one writer of the slot map.

It starts the shards and gateways, watches each through a call that never returns, and publishes a new slot map when one
registers or dies. It holds nothing that cannot be asked back: after its own restart it describes the members that live.
While it is down, traffic flows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayTaskError

from fusion_cluster.errors import UsageError
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_shards.configuration import AppConfiguration, ClusterStatus, MemberStatus
from fusion_shards.control import PAUSE_S, Actor
from fusion_shards.gateway_actor import GatewayMember
from fusion_shards.names import gateway_name, shard_name
from fusion_shards.shard_actor import Shard

logger = logging.getLogger(__name__)

Role = Literal["shard", "gateway"]
MemberId = tuple[Role, int]

STATUS_TIMEOUT_S = 2.0


class Coordinator:
    """The coordinator of one app; a Ray actor by `ray.remote(Coordinator)`.

    Args:
        configuration: the app's.
    """

    def __init__(self, configuration: AppConfiguration) -> None:
        self._configuration = configuration
        # Versions start at the clock, so that they rise over the coordinator's own restarts.
        self._slot_map = SlotMap.even(range(configuration.shards), version=time.time_ns() // 1_000_000)
        self._slot_map_changed = asyncio.Event()
        self._epochs: defaultdict[MemberId, int] = defaultdict(int)
        self._members: dict[MemberId, Actor] = {}
        self._is_up: dict[MemberId, asyncio.Event] = {}
        # Why members cannot start at all; such a launch fails at once instead of being retried.
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        members: list[MemberId] = [("shard", i) for i in range(configuration.shards)]
        members += [("gateway", i) for i in range(configuration.gateways)]
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
        for supervision in self._supervisions:
            supervision.cancel()
        for role in ("gateway", "shard"):
            actors = [actor for member, actor in self._members.items() if member[0] == role]
            await asyncio.gather(*(self._stop(actor) for actor in actors))

    # -- called by members ----------------------------------------------------------------------
    async def new_epoch(self, role: Role, member_id: int) -> int:
        """The next incarnation number of a member."""
        self._epochs[role, member_id] += 1
        return self._epochs[role, member_id]

    async def register(self, address: ShardAddress) -> bytes:
        """A shard listens: put it into the map, and return the map."""
        self._admit(address)
        return self._slot_map.encode()

    async def slot_map(self, newer_than: int, timeout_s: float) -> bytes:
        """The slot map, once it is newer than a version or the time is up."""
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
                await actor.watch.remote()
            except RayActorError as error:
                logger.warning("%s %d is down: %s", role, member_id, type(error).__name__)
                self._is_up[member].clear()
                # Its successor may have registered before Ray told us: that one stays.
                if isinstance(watched, ShardAddress) and self._slot_map.shards.get(member_id) == watched:
                    self._publish(self._slot_map.without_shard(member_id))
            except RayTaskError as error:
                self._fail(f"{role} {member_id} cannot start: {error.cause}")
                return
            await asyncio.sleep(PAUSE_S)

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
        self._epochs[member] = max(self._epochs[member], address.epoch)
        known = self._slot_map.shards.get(address.shard_id)
        if address.epoch == self._epochs[member] and known != address:
            self._publish(self._slot_map.with_shard(address))

    def _publish(self, slot_map: SlotMap) -> None:
        self._slot_map = slot_map
        changed, self._slot_map_changed = self._slot_map_changed, asyncio.Event()
        changed.set()
