"""The common part of shard and gateway actors: a cluster host made from the app's configuration."""

from __future__ import annotations

import gc
import logging
import os

import ray
from ray.util import get_node_ip_address

from fusion_cluster.app import App
from fusion_cluster.app_import import import_app
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.tcp import dial_tcp
from fusion_cluster.loop_watch import LoopWatch, blocked_loop_s, leave_process
from fusion_cluster.protocol.coordination import Role
from fusion_cluster.protocol.slot_map import ShardAddress
from fusion_router.host import ClusterHost
from fusion_router.serving import Serving
from fusion_shards.configuration import AppConfiguration, MemberStatus, resident_bytes
from fusion_shards.ray_offload import RayTasks, WorkerPreparation


def node_address() -> str:
    """Return the address by which other members reach this machine."""
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]


async def dial_shard(address: ShardAddress) -> Carrier:
    """Open a TCP carrier to a shard."""
    return await dial_tcp(address.host, address.port)


def import_configured_app(configuration: AppConfiguration) -> App:
    """Import the app in this process, as the launcher would."""
    if os.path.isdir(configuration.folder):
        os.chdir(configuration.folder)
    os.environ.update(configuration.environment)
    logging.basicConfig(level=os.environ.get("FUSION_LOG_LEVEL", "WARNING"))
    return import_app(configuration.app_path, configuration.sys_path)


def watch_loop(name: str, configuration: AppConfiguration) -> LoopWatch:
    """Watch the event loop of this actor; when the loop has ended the process ends, and Ray restarts the actor.

    In a process that is not Ray's, nothing is watched.

    Args:
        name: the name of the actor, for the log.
        configuration: the configuration of the app.
    """
    watch = LoopWatch(name, on_ended=leave_process, blocked_s=blocked_loop_s(configuration.environment))
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
        watch.start()
    return watch


def new_host(
    app: App, configuration: AppConfiguration, peer_id: str, *, shard_id: int | None = None, epoch: int = 0
) -> ClusterHost:
    """Make the host of a member of the app's cluster."""
    host = ClusterHost(
        app,
        dial=dial_shard,
        peer_id=peer_id,
        secret=configuration.secret,
        shard_id=shard_id,
        epoch=epoch,
        read_lease_s=configuration.read_lease_s,
        call_timeout_s=configuration.call_timeout_s,
        max_nodes=configuration.max_nodes,
        max_bytes=configuration.max_bytes,
    )
    host.bodies.task_runner = RayTasks(WorkerPreparation.of_app(configuration))
    # Everything imported and made until now stays: the garbage collector need not walk it while readers wait.
    gc.collect()
    gc.freeze()
    return host


def status_of(role: Role, member_id: int, host: ClusterHost, serving: Serving, address: str) -> MemberStatus:
    """Return the status of a member, as it reports it.

    Args:
        role: its role.
        member_id: its number among its kind.
        host: gives its graph, slots and epoch.
        serving: gives its sessions.
        address: where it listens.
    """
    stats = host.graph.stats
    return MemberStatus(
        role=role,
        member_id=member_id,
        epoch=host.epoch,
        address=address,
        pid=os.getpid(),
        slots=0 if host.shard_id is None else host.slot_map.slots_of(host.shard_id),
        nodes=stats.nodes,
        hits=stats.hits,
        computations=stats.computations,
        invalidations=stats.invalidations,
        evictions=stats.evictions,
        subscriptions=serving.subscription_count,
        sessions=serving.session_count,
        memory_bytes=resident_bytes(),
    )
