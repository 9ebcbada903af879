"""Starts a Ray cluster of our own, or joins a named one, and leaves it again."""

from __future__ import annotations

import logging
import os
from typing import Any

import ray

from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_shards.names import NAMESPACE
from fusion_shards.ray_clusters import (
    ADDRESS_VARIABLE,
    CREDENTIALS,
    LOCAL,
    ask,
    named_address,
    only_cluster_here,
    prepare_environment,
)

OBJECT_STORE_BYTES = 80 * 2**20
"""The size of Ray's object store. Values travel on links; the store only carries the control plane."""


def joins_ray(address: str | None) -> bool:
    """Whether `start_ray` would join a Ray cluster instead of starting one."""
    return (address or os.environ.get(ADDRESS_VARIABLE) or LOCAL) != LOCAL


def start_ray(*, address: str | None = None, cpus: int | None = None) -> None:
    """Join the Ray cluster at an address, or start one on this machine; do nothing if Ray runs in this process.

    Args:
        address: "host:port"; "auto": the one of this machine; "local": a new one; None: the one that RAY_ADDRESS
            names, else a new one. A new cluster listens on loopback.
        cpus: CPUs a new cluster claims to have.

    Raises:
        ShardUnavailable: there is no Ray cluster at the address.
        UsageError: that is not an address, or there are several clusters.
    """
    if ray.is_initialized():
        return
    prepare_environment()
    if joins_ray(address):
        join_ray(address)
        return
    _init(
        address=LOCAL,  # also if the address of another cluster was left on this machine
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
    )


def join_ray(address: str | None = None) -> None:
    """Join a Ray cluster that runs; do nothing if this process has joined one.

    Args:
        address: "host:port"; None or "auto": the one that RAY_ADDRESS names, else the only one of this machine.

    Raises:
        ShardUnavailable: it does not answer.
        UsageError: that is not an address, there are several clusters, or it wants credentials.
    """
    if ray.is_initialized():
        return
    prepare_environment()
    where = named_address(address)
    if where is None:
        where = only_cluster_here()
    if ask(where).apps is None:
        raise UsageError(f"the Ray cluster at {where!r} wants its credentials: set {CREDENTIALS}")
    try:
        _init(address=where)
    except (ConnectionError, RuntimeError) as error:  # it has another version, or this machine is not a part of it
        raise ShardUnavailable(f"the Ray cluster at {where!r} cannot be joined from this machine: {error}") from error
    except ValueError as error:
        raise UsageError(f"{where!r} is not the address of a Ray cluster: {error}", field="address") from error


def _init(**options: Any) -> None:
    # Ray warns that SIGTERM is not handled outside of the main thread: that is intended.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING, **options)


def stop_ray() -> None:
    """Leave the Ray cluster; end it if this process started it."""
    ray.shutdown()
