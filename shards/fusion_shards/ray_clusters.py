"""Finds the Ray clusters of this machine and the apps in them: each cluster is asked, without joining it.

Ray's own "auto" takes the cluster whose address was written down last, even a dead one or another user's. Here a
cluster counts only if it answers, and it is taken only if it runs the requested app, or is the only one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import grpc
import msgspec
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import find_gcs_addresses
from ray._private.utils import read_ray_address
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_shards.names import NAMESPACE, app_of_coordinator

ANSWER_TIMEOUT_S: Final = 3.0
"""How long a Ray cluster may take to answer, here or elsewhere."""

AUTO: Final = "auto"
LOCAL: Final = "local"
ADDRESS_VARIABLE: Final = "RAY_ADDRESS"

CREDENTIALS: Final = "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"

_SAY_WHICH: Final = f"say which with --ray-address or {ADDRESS_VARIABLE}"


class RayCluster(msgspec.Struct, frozen=True):
    """A Ray cluster that answers.

    Attributes:
        address: the address of its GCS, as host:port.
        identity: the same for one cluster under each of its addresses.
        apps: the names of the apps that run in it; None: it does not answer that without credentials.
    """

    address: str
    identity: bytes
    apps: tuple[str, ...] | None


def prepare_environment() -> None:
    """Set variables that Ray reads from the environment, if they are not set already."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def named_address(address: str | None = None) -> str | None:
    """Return the given address, else the one in RAY_ADDRESS; None if neither names one particular cluster."""
    for where in (address, os.environ.get(ADDRESS_VARIABLE)):
        if where and where not in (AUTO, LOCAL):
            return where
    return None


# -- one cluster -------------------------------------------------------------------------------------------------------
def ask(address: str, *, namespace: str = NAMESPACE, timeout_s: float = ANSWER_TIMEOUT_S) -> RayCluster:
    """Ask a Ray cluster for the apps that run in it.

    Args:
        address: the address of its GCS, as host:port.
        namespace: the Ray namespace of the apps.
        timeout_s: how long it may take to answer.

    Raises:
        UsageError: that is not an address, or not the address of a Ray cluster.
        ShardUnavailable: there is no answer from there.
    """
    host, port = _parts(address)
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ShardUnavailable(f"no Ray cluster answers at {_shown(address)}: {reason}") from error
    with _channel(address) as channel:
        return _Question(channel, address, namespace, timeout_s).answer()


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise UsageError(f"{_shown(address)} is not the host:port of a Ray cluster, such as 127.0.0.1:6379")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _shown(address: str) -> str:
    """Return an address, with its source if that is not the command line."""
    is_from_environment = address == os.environ.get(ADDRESS_VARIABLE)
    return f"{address!r} ({ADDRESS_VARIABLE})" if is_from_environment else repr(address)


def _channel(address: str) -> grpc.Channel:
    """Open a channel with the credentials from Ray's own settings."""
    prepare_environment()
    channel: Any = init_grpc_channel(address, options=[("grpc.enable_http_proxy", 0)])
    return cast(grpc.Channel, channel)


class _Question:
    """A question to a cluster; the answer can be awaited later, so that several clusters are asked at once."""

    def __init__(self, channel: grpc.Channel, address: str, namespace: str, timeout_s: float) -> None:
        self._address = address
        self._namespace = namespace
        self._timeout_s = timeout_s
        services: Any = gcs_service_pb2_grpc
        nodes, actors = services.NodeInfoGcsServiceStub(channel), services.ActorInfoGcsServiceStub(channel)
        pb: Any = gcs_service_pb2
        self._identity = nodes.GetClusterId.future(pb.GetClusterIdRequest(), timeout=timeout_s)
        self._named = actors.ListNamedActors.future(pb.ListNamedActorsRequest(all_namespaces=True), timeout=timeout_s)

    def answer(self) -> RayCluster:
        try:
            identity = self._identity.result().cluster_id
            named = self._named.result().named_actors_list
        except grpc.RpcError as error:
            return self._without_answer(error)
        names = (app_of_coordinator(one.name) for one in named if one.ray_namespace == self._namespace)
        return RayCluster(self._address, bytes(identity), tuple(sorted(name for name in names if name)))

    def _without_answer(self, error: Any) -> RayCluster:
        where = _shown(self._address)
        match error.code():
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
                return RayCluster(self._address, self._address.encode(), None)
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ShardUnavailable(
                    f"the Ray cluster at {where} did not answer within {self._timeout_s:g} s"
                ) from error
        raise UsageError(f"the listener at {where} is not the GCS of a Ray cluster") from error


# -- the clusters of this machine --------------------------------------------------------------------------------------
def clusters_here(namespace: str = NAMESPACE) -> list[RayCluster]:
    """Return the Ray clusters that this machine is a part of and that answer."""
    return _distinct(_ask_all(sorted(addresses_here()), namespace))


def addresses_here() -> set[str]:
    """Return the addresses of the Ray clusters that have a process here, and the address that was written down last."""
    find: Any = find_gcs_addresses
    find.cache_clear()
    written: str | None = read_ray_address(None)
    return {*find(), *([written] if written else [])}


def _ask_all(addresses: Sequence[str], namespace: str) -> Iterable[RayCluster]:
    channels = [_channel(address) for address in addresses]
    try:
        pairs = zip(channels, addresses, strict=True)
        questions = [_Question(channel, address, namespace, ANSWER_TIMEOUT_S) for channel, address in pairs]
        for question in questions:
            try:
                yield question.answer()
            except (ShardUnavailable, UsageError):
                continue  # the remains of a dead cluster, or no address at all
    finally:
        for channel in channels:
            channel.close()


def _distinct(clusters: Iterable[RayCluster]) -> list[RayCluster]:
    return list({cluster.identity: cluster for cluster in clusters}.values())


def only_cluster_here() -> str:
    """Return the address of the Ray cluster that this machine is a part of.

    Raises:
        ShardUnavailable: there is none.
        UsageError: there are several.
    """
    found = clusters_here()
    if not found:
        raise ShardUnavailable("no Ray cluster runs on this machine")
    if len(found) > 1:
        raise UsageError(f"several Ray clusters run on this machine: {_addresses(found)}; {_SAY_WHICH}")
    return found[0].address


def find_app(name: str | None = None, address: str | None = None, *, namespace: str = NAMESPACE) -> tuple[str, str]:
    """Find where an app runs: in the named cluster, else in one of the clusters of this machine.

    Args:
        name: the name of the app; None: the only app that runs.
        address: the address of a Ray cluster; None or "auto": the one in RAY_ADDRESS, else all clusters of this
            machine.
        namespace: the Ray namespace it was launched in.

    Returns:
        The address of the Ray cluster, and the name of the app.

    Raises:
        ShardUnavailable: it does not run there, or there is no answer.
        UsageError: several match, or that is not an address.
    """
    where = named_address(address)
    found = clusters_here(namespace) if where is None else [ask(where, namespace=namespace)]
    running = [(cluster.address, app) for cluster in found for app in cluster.apps or () if name in (None, app)]
    if len(running) == 1:
        return running[0]
    if not running:
        raise ShardUnavailable(_not_running(name, found))
    if name is None and len({app for _, app in running}) == len(running):
        names = ", ".join(sorted(app for _, app in running))
        raise UsageError(f"several apps run: say which with --app: {names}")
    places = ", ".join(f"{app} at {place}" for place, app in sorted(running))
    raise UsageError(f"several Ray clusters run it: {places}; {_SAY_WHICH}")


def _not_running(name: str | None, found: Sequence[RayCluster]) -> str:
    what = "no app runs" if name is None else f"the app {name!r} does not run"
    if not found:
        return f"{what} on this machine: no Ray cluster does"
    running = ", ".join(sorted(f"{app} at {cluster.address}" for cluster in found for app in cluster.apps or ()))
    silent = [cluster for cluster in found if cluster.apps is None]
    ends = [f"running: {running}"] if running else []
    if silent:
        ends.append(f"not known without credentials ({CREDENTIALS}): {_addresses(silent)}")
    clusters = "the Ray cluster" if len(found) == 1 else "any of the Ray clusters"
    return "; ".join([f"{what} in {clusters} at {_addresses(found)}", *ends])


def _addresses(clusters: Iterable[RayCluster]) -> str:
    return ", ".join(sorted(cluster.address for cluster in clusters))
