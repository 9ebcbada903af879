"""Start an app on Ray and stop it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
import ray
from ray.exceptions import RayError, RayTaskError

from fusion_cluster.addresses import MAX_PORT, parse_host
from fusion_cluster.app_import import import_app
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.errors import FusionError, InvalidArgument, ShardUnavailable, UsageError
from fusion_cluster.graph.computing.retention import NODE_BYTES
from fusion_cluster.loop_watch import blocked_loop_s
from fusion_cluster.quantities import MOST, as_count, as_finite_timeout, as_number
from fusion_cluster.runtime import SYSTEM
from fusion_cluster.verification import VerifyOptions
from fusion_cluster.verification.options import MAX_RATE
from fusion_router.gateway.listening import check_can_listen, check_host
from fusion_shards.configuration import AppConfiguration, ClusterStatus
from fusion_shards.control import Actor, persist
from fusion_shards.coordinator import Coordinator
from fusion_shards.names import NAMESPACE, app_of_coordinator, coordinator_name, gateway_name, shard_name

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0

PASSED_ENVIRONMENT = "FUSION_"
"""Variables with this prefix reach every member of the app."""


class LaunchedApp:
    """An app that runs on Ray.

    Args:
        configuration: the configuration of its launch.
        coordinator: its coordinator.
    """

    def __init__(self, configuration: AppConfiguration, coordinator: Actor) -> None:
        self.configuration = configuration
        self.coordinator = coordinator
        self.gateway_addresses: tuple[str, ...] = ()

    async def status(self) -> ClusterStatus:
        """Return the status of each member."""
        status: ClusterStatus = await persist(lambda: self.coordinator.status.remote())
        return status

    async def stop(self) -> None:
        """Stop all its actors, in good order if the coordinator can, else by force. Ray itself goes on."""
        try:
            await asyncio.wait_for(self.coordinator.stop.remote(), STOP_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            logger.warning("the coordinator could not stop the app (%r): its actors are killed", error)
        ray.kill(self.coordinator, no_restart=True)
        configuration = self.configuration
        members = [shard_name(configuration.app_name, i) for i in range(configuration.shards)]
        members += [gateway_name(configuration.app_name, i) for i in range(configuration.gateways)]
        for name in members:
            with contextlib.suppress(ValueError):  # it has stopped: there is no actor of that name
                ray.kill(ray.get_actor(name, namespace=configuration.namespace), no_restart=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def launch(
    app_path: str,
    *,
    shards: int = 2,
    gateways: int = 1,
    grpc_host: str = "127.0.0.1",
    grpc_port: int = 50051,
    insecure: bool = False,
    max_nodes: int = 1_000_000,
    max_bytes: float = math.inf,
    call_timeout_s: float = 10.0,
    verify_rate: float = 0.0,
    cpus_per_shard: float = 1.0,
    namespace: str = NAMESPACE,
    environment: Mapping[str, str] | None = None,
) -> LaunchedApp:
    """Run an app: a coordinator, its shards and its gateways, in the Ray cluster this process has joined.

    Args:
        app_path: "module:attribute".
        shards: how many shards.
        gateways: how many gateways; gateway i listens on `grpc_port + i`, or all on `grpc_port` if machines are
            reserved for them by the resource `fusion_gateway`.
        grpc_host: address the gateways bind to.
        grpc_port: port of the first gateway; 0: any free port.
        insecure: allow gateways on other than loopback addresses.
        max_nodes: bound on each member's graph.
        max_bytes: the same in bytes, by estimate.
        call_timeout_s: how long a read or command may take, retries included.
        verify_rate: how many cached values a second each member verifies; 0: as the app says (`App(verify=...)`).
        cpus_per_shard: CPUs Ray sets aside for each member.
        namespace: the Ray namespace.
        environment: variables set in each member before the app is imported, besides those named FUSION_*.

    Returns:
        The app, up: every shard and gateway serves.

    Raises:
        UsageError: the app cannot be imported, a number is wrong, an address is in use, or the app runs already.
    """
    shards = as_count("shards", shards, most=SLOT_COUNT)
    gateways = as_count("gateways", gateways, least=0, most=MAX_PORT)
    grpc_port = as_count("grpc_port", grpc_port, least=0, most=MAX_PORT)
    check_last_port(grpc_port, gateways)
    grpc_host = parse_host(grpc_host, "grpc_host")
    if gateways:
        check_host(grpc_host, insecure=insecure, field="grpc_host")
    max_nodes = as_count("max_nodes", max_nodes)
    max_bytes = as_number("max_bytes", max_bytes, least=NODE_BYTES)
    call_timeout_s = as_finite_timeout("call_timeout_s", call_timeout_s)
    verify_rate = as_number(
        "verify_rate", verify_rate, f"a number of values a second up to {MAX_RATE:g}", most=MAX_RATE
    )
    if verify_rate:
        VerifyOptions(rate=verify_rate)  # raises if it is too small
    cpus_per_shard = as_number("cpus_per_shard", cpus_per_shard, "an amount, 0 or more", most=MOST)
    app = import_app(app_path)
    if is_running(app.name, namespace):
        raise UsageError(f"the app {app.name!r} runs already in this Ray cluster", field="app")
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ENVIRONMENT)}
    blocked_loop_s({**passed, **(environment or {})})  # raises if it is wrong
    configuration = AppConfiguration(
        app_path=app_path,
        app_name=app.name,
        namespace=namespace,
        secret=SYSTEM.entropy.token_bytes(32),
        sys_path=tuple(path for path in sys.path if path),
        folder=os.getcwd(),
        environment={**passed, **(environment or {})},
        shards=shards,
        gateways=gateways,
        grpc_host=grpc_host,
        grpc_port=grpc_port,
        insecure=insecure,
        max_nodes=max_nodes,
        max_bytes=max_bytes,
        call_timeout_s=call_timeout_s,
        verify_rate=verify_rate,
        cpus_per_shard=cpus_per_shard,
    )
    options = {
        "name": coordinator_name(app.name),
        "namespace": namespace,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_concurrency": 1000,
        "num_cpus": 0,
    }
    kind: Any = ray.remote(Coordinator)
    coordinator: Actor = kind.options(**options).remote(configuration)
    launched = LaunchedApp(configuration, coordinator)
    try:
        status: ClusterStatus = await asyncio.wait_for(coordinator.wait_until_up.remote(), START_TIMEOUT_S)
    except BaseException as error:
        await launched.stop()
        if isinstance(error, RayTaskError) and isinstance(error.cause, FusionError):
            raise error.cause from None
        if isinstance(error, TimeoutError):
            resources = msgspec.json.encode(ray.available_resources()).decode()  # type: ignore[no-untyped-call]
            raise ShardUnavailable(
                f"the app was not up within {START_TIMEOUT_S:g} s; resources still free in the Ray cluster: {resources}"
            ) from error
        raise
    launched.gateway_addresses = status.gateway_addresses
    return launched


def check_last_port(grpc_port: int, gateways: int, *, field: str = "grpc_port") -> None:
    """Check that each gateway has a port.

    Raises:
        InvalidArgument: the last port would be too high.
    """
    if grpc_port and (last_port := grpc_port + gateways - 1) > MAX_PORT:
        raise InvalidArgument(
            f"{field} {grpc_port}: the port of the last of {gateways} gateways would be {last_port}; "
            f"there is none above {MAX_PORT}",
            field=field,
        )


def check_gateway_addresses(
    host: str,
    port: int,
    gateways: int,
    *,
    insecure: bool = False,
    host_field: str = "grpc_host",
    field: str = "grpc_port",
) -> None:
    """Check, before Ray starts, that gateways on this machine can listen.

    Args:
        host: the address that they bind to.
        port: the port of the first one; gateway i has `port + i`; 0: any free port.
        gateways: how many.
        insecure: allow addresses other than loopback.
        host_field: the name of the setting that gave the address.
        field: the name of the setting that gave the port.

    Raises:
        UsageError: a port is in use or too high, or the address is not of this machine.
    """
    check_last_port(port, gateways, field=field)
    if not gateways:
        return
    check_host(host, insecure=insecure, field=host_field)
    check_can_listen(host, 0, field=host_field)
    for gateway_id in range(gateways if port else 0):
        check_can_listen(host, port + gateway_id, field=field)


def is_running(app_name: str, namespace: str = NAMESPACE) -> bool:
    """Whether the app has a coordinator in this Ray cluster."""
    return app_name in running_apps(namespace)


def running_apps(namespace: str = NAMESPACE) -> list[str]:
    """Return the names of the apps that run in this Ray cluster."""
    actors: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    names = (app_of_coordinator(actor["name"]) for actor in actors if actor["namespace"] == namespace)
    return sorted(name for name in names if name)


async def attach(app_name: str, namespace: str = NAMESPACE) -> LaunchedApp:
    """Return the app of that name that runs in this Ray cluster.

    Raises:
        ShardUnavailable: it does not run here.
    """
    try:
        coordinator = ray.get_actor(coordinator_name(app_name), namespace=namespace)
    except ValueError:
        running = ", ".join(running_apps(namespace)) or "none"
        raise ShardUnavailable(f"the app {app_name!r} does not run in this Ray cluster; running: {running}") from None
    configuration: AppConfiguration = await persist(lambda: coordinator.configuration.remote())
    return LaunchedApp(configuration, coordinator)
