"""Joins an app's cluster from any process of the Ray cluster, for `App.cluster()`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import ray

from fusion_cluster.app import App
from fusion_cluster.blocks import async_block
from fusion_cluster.bodies.offload import TaskRunner
from fusion_cluster.runtime import SYSTEM
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from fusion_shards.control import CoordinatorMaps
from fusion_shards.joining import join_ray
from fusion_shards.launch import attach
from fusion_shards.member import new_host
from fusion_shards.ray_clusters import find_app
from fusion_shards.ray_offload import RayTasks, WorkerPreparation


@async_block
async def join(app: App, *, namespace: str) -> AsyncIterator[ClusterHost]:
    """Open a host without slots: its services read through links to the shards.

    Args:
        app: the app, as this process has imported it.
        namespace: the Ray namespace it was launched in.

    Raises:
        ShardUnavailable: the app does not run in this Ray cluster, or there is none.
    """
    if not ray.is_initialized():
        address, _ = find_app(app.name, namespace=namespace)
        join_ray(address)
    launched = await attach(app.name, namespace)
    peer_id = f"{app.name}/driver-{os.getpid()}-{SYSTEM.entropy.token_hex(4)}"
    host = new_host(app, launched.configuration, peer_id)
    async with Member(host, slot_maps=CoordinatorMaps(launched.coordinator)):
        yield host


def local_task_runner() -> TaskRunner:
    """Return the runner of bodies on the Ray cluster that this process has joined, for an app that it hosts itself."""
    return RayTasks(WorkerPreparation.of_this_process())
