from __future__ import annotations

import pytest

from fusion_cluster.errors import FusionError, ShardUnavailable, UsageError
from fusion_shards import joining
from fusion_shards.joining import join_ray, joins_ray, start_ray
from fusion_shards.launch import launch
from fusion_shards.ray_clusters import RayCluster


@pytest.mark.parametrize(("grpc_port", "gateways"), [(99_999, 1), (65_535, 2), (-1, 1)])
async def test_a_port_that_does_not_exist_is_a_usage_error(grpc_port: int, gateways: int) -> None:
    with pytest.raises(UsageError, match="port") as raised:
        await launch("tests.apps.sheet:app", grpc_port=grpc_port, gateways=gateways)
    assert raised.value.field == "grpc_port"


@pytest.mark.parametrize(
    ("grpc_host", "what"),
    [
        ("localhost:1", "neither a name"),
        ("http://here", "neither a name"),
        ("", "empty"),
        ("0.0.0.0", "loopback"),
    ],
)
async def test_a_host_that_gateways_cannot_listen_on_is_a_usage_error(grpc_host: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as raised:
        await launch("tests.apps.sheet:app", grpc_host=grpc_host)
    assert raised.value.field == "grpc_host"


@pytest.mark.parametrize(
    ("raised", "told"),
    [(ValueError, UsageError), (ConnectionError, ShardUnavailable), (RuntimeError("version"), ShardUnavailable)],
)
def test_a_ray_cluster_that_cannot_be_joined_is_named(
    raised: Exception, told: type[FusionError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    monkeypatch.setattr(joining, "ask", lambda address: RayCluster(address, b"", ()))
    with pytest.raises(told, match="'somewhere:1'"):
        start_ray(address="somewhere:1")


def test_a_cluster_is_our_own_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[object] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: began.append(options["address"]))
    monkeypatch.setattr(joining, "ask", lambda address: RayCluster(address, b"", ()))
    monkeypatch.setattr(joining, "only_cluster_here", lambda: "here:1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    start_ray()
    join_ray()
    monkeypatch.setenv("RAY_ADDRESS", "named:1")
    for address in (None, "auto", "local", "given:1"):
        start_ray(address=address)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    start_ray()
    assert began == ["local", "here:1", "named:1", "named:1", "local", "given:1", "here:1"]
    assert [joins_ray(address) for address in (None, "auto", "local")] == [True, True, False]
