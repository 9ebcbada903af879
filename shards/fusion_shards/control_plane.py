"""Ray as the control plane: actors are started, described, watched, killed and stopped by Ray calls.

Ray restarts the process of an actor by itself when it has died; `start` finds it. Each start of a member has one
supervision, which ends with the report of its end.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from fusion_cluster.protocol.coordination import Died, MemberId, Served, StartFailed, Stopped
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_router.coordinating import Report
from fusion_shards.configuration import AppConfiguration, MemberDescription, MemberStatus
from fusion_shards.control import Actor
from fusion_shards.gateway_actor import GatewayMember
from fusion_shards.names import gateway_name, shard_name
from fusion_shards.shard_actor import Shard

logger = logging.getLogger(__name__)

STATUS_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 5.0


class RayControlPlane:
    """The actors of one app. Made in the coordinator actor; they are given its handle.

    Args:
        configuration: the configuration of the app.
        runtime: runs the supervisions.
    """

    def __init__(self, configuration: AppConfiguration, *, runtime: Runtime = SYSTEM) -> None:
        self._configuration = configuration
        self._scope = runtime.scope("the control plane")
        # The members that were started once.
        self._actors: dict[MemberId, Actor] = {}

    def start(self, member: MemberId, report: Report) -> None:
        """Start the actor of a member, or find the one that exists."""
        self._scope.spawn(self._supervise(member, report), name=f"watch {member}", context=copy_context())

    def kill(self, member: MemberId) -> None:
        """End the process of an actor; Ray starts another one."""
        ray.kill(self._actors[member], no_restart=False)

    def stop(self, member: MemberId, report: Report) -> None:
        """Stop an actor in good order if it can, and end it."""
        self._scope.spawn(self._stop(member, report), name=f"stop {member}", context=copy_context())

    async def status(self, member: MemberId) -> MemberStatus:
        """Ask a member for its status; one that does not answer in time is shown as down."""
        try:
            status: MemberStatus = await asyncio.wait_for(self._actors[member].status.remote(), STATUS_TIMEOUT_S)
        except (RayError, TimeoutError, KeyError):
            return MemberStatus(role=member.role, member_id=member.number)
        return status

    async def close(self) -> None:
        """End the supervisions; the actors are left as they are."""
        await self._scope.close()

    async def _supervise(self, member: MemberId, report: Report) -> None:
        epoch = 0
        try:
            actor = self._actors[member] = self._get_or_start(member)
            description: MemberDescription = await actor.describe.remote()
            epoch = description.epoch
            report(Served(member, epoch, description.address))
            await actor.watch.remote(epoch)
        except RayActorError as error:
            logger.warning("%s is down: %s", member, type(error).__name__)
        except RayTaskError as error:
            if not epoch:
                logger.error("%s cannot start: %s", member, error.cause)
                report(StartFailed(member, str(error.cause)))
                return
            logger.warning("%s cannot be watched: %s", member, error.cause)
        except (
            Exception
        ) as error:  # Ray itself failed, by an error of any class: without another start nobody would watch
            logger.warning("%s is out of sight: %r", member, error)
        report(Died(member, epoch))

    async def _stop(self, member: MemberId, report: Report) -> None:
        if (actor := self._actors.get(member)) is not None:
            try:
                await asyncio.wait_for(actor.stop.remote(), STOP_TIMEOUT_S)
            except (RayError, TimeoutError) as error:  # any failure: the stop of the app waits for the report
                logger.warning("%s did not stop in good order: %r", member, error)
            ray.kill(actor, no_restart=True)
        report(Stopped(member))

    def _get_or_start(self, member: MemberId) -> Actor:
        configuration = self._configuration
        kind: Any = Shard if member.role == "shard" else GatewayMember
        name = shard_name if member.role == "shard" else gateway_name
        options = {
            "name": name(configuration.app_name, member.number),
            "namespace": configuration.namespace,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_concurrency": 1000,
            "num_cpus": configuration.cpus_per_shard,
            "scheduling_strategy": "SPREAD",
            "enable_task_events": False,
        }
        # Machines reserved for one kind of member offer a custom resource; if no machine offers it, any machine will
        # do.
        resource = f"fusion_{member.role}"
        if resource in ray.cluster_resources():  # type: ignore[no-untyped-call]
            options["resources"] = {resource: 1}
        coordinator = ray.get_runtime_context().current_actor
        actor: Actor = ray.remote(kind).options(**options).remote(configuration, member.number, coordinator)
        return actor
