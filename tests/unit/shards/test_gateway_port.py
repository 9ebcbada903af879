from __future__ import annotations

import pytest

from fusion_shards.configuration import AppConfiguration


def configuration(grpc_port: int) -> AppConfiguration:
    return AppConfiguration("m:app", "app", "namespace", b"secret", gateways=3, grpc_port=grpc_port)


@pytest.mark.parametrize("gateway_id", [0, 1, 2])
def test_gateways_that_may_share_a_host_count_up_from_the_port(gateway_id: int) -> None:
    assert configuration(50051).gateway_port(gateway_id, has_own_host=False) == 50051 + gateway_id


@pytest.mark.parametrize("gateway_id", [0, 1, 2])
def test_gateways_on_hosts_of_their_own_all_have_the_port_that_is_probed(gateway_id: int) -> None:
    assert configuration(50051).gateway_port(gateway_id, has_own_host=True) == 50051


@pytest.mark.parametrize("has_own_host", [True, False])
def test_port_0_is_any_free_port_for_each(has_own_host: bool) -> None:
    assert configuration(0).gateway_port(1, has_own_host=has_own_host) == 0
