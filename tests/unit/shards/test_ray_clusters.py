"""Which Ray cluster is meant: servers that answer as a GCS does, remains of dead ones, and what is not Ray at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import grpc
import pytest
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_shards import ray_clusters
from fusion_shards.joining import join_ray
from fusion_shards.names import NAMESPACE
from fusion_shards.ray_clusters import ask, clusters_here, find_app, named_address, only_cluster_here

pb: Any = gcs_service_pb2
services: Any = gcs_service_pb2_grpc

Started = Callable[..., str]


class _Nodes(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    def __init__(self, identity: bytes) -> None:
        self._identity = identity

    def GetClusterId(self, request: Any, context: Any) -> Any:
        return pb.GetClusterIdReply(cluster_id=self._identity)


class _Actors(gcs_service_pb2_grpc.ActorInfoGcsServiceServicer):
    def __init__(self, apps: Sequence[str], namespace: str, refusal: grpc.StatusCode | None) -> None:
        self._names = [*(f"{app}/coordinator" for app in apps), *(f"{app}/shard-0" for app in apps), "other"]
        self._namespace = namespace
        self._refusal = refusal

    def ListNamedActors(self, request: Any, context: Any) -> Any:
        if self._refusal is not None:
            context.abort(self._refusal, "no")
        reply = pb.ListNamedActorsReply()
        for name in self._names:
            reply.named_actors_list.add(name=name, ray_namespace=self._namespace)
        return reply


@contextmanager
def gcs(apps: Sequence[str], namespace: str, refusal: grpc.StatusCode | None, identity: bytes) -> Iterator[str]:
    """What answers as the GCS of a Ray cluster; its address."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    services.add_NodeInfoGcsServiceServicer_to_server(_Nodes(identity), server)
    services.add_ActorInfoGcsServiceServicer_to_server(_Actors(apps, namespace, refusal), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@contextmanager
def listening(*, answers: bool) -> Iterator[str]:
    """A server that is not Ray: it says something else to whoever connects, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connections.append(server.accept()[0])
                    if answers:
                        connections[-1].sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The addresses that this machine's processes show; none at first."""
    addresses: set[str] = set()
    monkeypatch.setattr(ray_clusters, "addresses_here", lambda: addresses)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return addresses


@pytest.fixture
def started(here: set[str]) -> Iterator[Started]:
    """Starts a cluster on this machine, with apps."""
    with ExitStack() as stack:

        def start(
            *apps: str, namespace: str = NAMESPACE, refusal: grpc.StatusCode | None = None, identity: bytes = b""
        ) -> str:
            number = str(len(here)).encode()
            address = stack.enter_context(gcs(apps, namespace, refusal, identity or number))
            here.add(address)
            return address

        yield start


@pytest.fixture
def remains(here: set[str]) -> str:
    """The address of a cluster that is dead."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    here.add(address)
    return address


# -- an address that is given ------------------------------------------------------------------------------------------
def test_nobody_is_told_at_once_and_by_its_address(remains: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShardUnavailable, match=f"'{remains}': Connection refused"):
        ask(remains)
    monkeypatch.setenv("RAY_ADDRESS", remains)
    with pytest.raises(ShardUnavailable, match="RAY_ADDRESS"):
        find_app()
    with pytest.raises(ShardUnavailable, match="does-not-exist"):
        ask("does-not-exist.invalid:6379")


def test_what_is_not_ray_is_told() -> None:
    with listening(answers=True) as address, pytest.raises(UsageError, match="not the GCS of a Ray cluster"):
        ask(address)
    with (
        listening(answers=False) as address,
        pytest.raises((ShardUnavailable, UsageError), match=address),
    ):
        ask(address, timeout_s=0.2)
    server = grpc.server(ThreadPoolExecutor(1))  # a gateway of ours, for example
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(UsageError, match="not the GCS of a Ray cluster"):
        ask(f"127.0.0.1:{port}")
    server.stop(None)


@pytest.mark.parametrize(
    "address",
    ["6379", "somewhere", ":6379", "somewhere:", "somewhere:port", "somewhere:0", "somewhere:65536", "somewhere:-1",
     "http://somewhere:6379", "ray://somewhere:10001", "somewhere:６３７９", "", "unix:/tmp/gcs"],
)  # fmt: skip
def test_what_is_not_an_address_is_a_misuse(address: str) -> None:
    with pytest.raises(UsageError, match="host:port"):
        ask(address)


def test_the_address_that_is_given_wins(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = started("shop"), started("bank")
    monkeypatch.setenv("RAY_ADDRESS", first)
    assert find_app() == (first, "shop")
    assert find_app(address=second) == (second, "bank")
    assert find_app(address="auto") == (first, "shop")
    assert named_address("auto") == first
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert named_address() is None
    assert find_app("bank") == (second, "bank")


# -- the clusters of this machine --------------------------------------------------------------------------------------
def test_an_app_is_found_beside_foreign_clusters_and_remains_of_dead_ones(started: Started, remains: str) -> None:
    started()
    ours = started("shop")
    started("shop", namespace="another")
    started(refusal=grpc.StatusCode.UNAUTHENTICATED)
    assert find_app() == find_app("shop") == (ours, "shop")


def test_several_apps_are_told_apart_by_their_names(started: Started) -> None:
    first, second = started("shop", "bank"), started("flights")
    assert find_app("bank") == (first, "bank")
    assert find_app("flights") == (second, "flights")
    with pytest.raises(UsageError, match="say which with --app: bank, flights, shop"):
        find_app()
    with pytest.raises(ShardUnavailable, match=r"'ledger' does not run .*: bank at .*, flights at .*, shop at"):
        find_app("ledger")


def test_the_same_app_in_two_clusters_is_told_apart_by_their_addresses(started: Started) -> None:
    first, second = started("shop"), started("shop")
    for name in ("shop", None):
        with pytest.raises(UsageError, match="--ray-address") as raised:
            find_app(name)
        assert first in str(raised.value)
        assert second in str(raised.value)


def test_one_cluster_under_two_addresses_counts_once(started: Started) -> None:
    started("shop", identity=b"the same")
    started("shop", identity=b"the same")
    assert find_app()[1] == "shop"
    assert len(clusters_here()) == 1


def test_that_no_app_runs_says_where_it_was_looked_for(
    started: Started, remains: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ShardUnavailable, match="no app runs on this machine: no Ray cluster does"):
        find_app()
    foreign = started()
    with pytest.raises(ShardUnavailable, match=f"no app runs in the Ray cluster at {foreign}"):
        find_app()
    silent = started(refusal=grpc.StatusCode.UNAUTHENTICATED)
    with pytest.raises(ShardUnavailable, match=f"without credentials .*RAY_AUTH_TOKEN.*{silent}"):
        find_app("shop")
    with pytest.raises(UsageError, match="RAY_AUTH_TOKEN"):
        join_ray(silent)


def test_only_a_cluster_that_is_the_only_one_is_joined_unnamed(started: Started, remains: str) -> None:
    with pytest.raises(ShardUnavailable, match="no Ray cluster runs on this machine"):
        only_cluster_here()
    first = started()
    assert only_cluster_here() == first
    second = started("shop")
    with pytest.raises(UsageError, match="--ray-address or RAY_ADDRESS") as raised:
        only_cluster_here()
    assert first in str(raised.value)
    assert second in str(raised.value)
