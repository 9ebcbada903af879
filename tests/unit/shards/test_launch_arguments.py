from __future__ import annotations

import pytest

from fusion_cluster.errors import FusionError, ShardUnavailable, UsageError
from fusion_shards.launch import launch, start_ray


@pytest.mark.parametrize(("grpc_port", "gateways"), [(99_999, 1), (65_535, 2), (-1, 1)])
async def test_a_port_that_does_not_exist_is_a_usage_error(grpc_port: int, gateways: int) -> None:
    with pytest.raises(UsageError, match="port") as raised:
        await launch("tests.sheet:app", grpc_port=grpc_port, gateways=gateways)
    assert raised.value.field == "grpc_port"


@pytest.mark.parametrize(("raised", "told"), [(ValueError, UsageError), (ConnectionError, ShardUnavailable)])
def test_a_ray_cluster_that_is_not_there_is_named(
    raised: type[Exception], told: type[FusionError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(told, match="'nowhere:1'"):
        start_ray(address="nowhere:1")
