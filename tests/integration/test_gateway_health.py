"""Health, addresses and the end of a gateway's life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fusion_cluster.client import connect
from fusion_cluster.errors import UsageError
from fusion_cluster.host import LocalHost
from fusion_router.gateway import Gateway
from tests.apps.shelf import app, fresh_stock
from tests.gateways import Served, serving

GATEWAY = "fusion_cluster.v1.Gateway"


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    fresh_stock()
    async with app.local() as host:
        yield host


@pytest.fixture
async def served(host: LocalHost) -> AsyncIterator[Served]:
    async with serving(host) as served:
        yield served


@pytest.mark.parametrize("service", ["", GATEWAY])
async def test_a_gateway_that_serves_is_healthy(served: Served, service: str) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_health_of_something_else_is_unknown(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_goes_not_serving_before_the_shutdown(served: Served) -> None:
    watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(service=GATEWAY))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    stopping = asyncio.ensure_future(served.gateway.stop(0.5))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    await stopping


async def test_a_stopped_gateway_takes_no_calls(served: Served) -> None:
    await served.gateway.stop(0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call("Shelf.count", "nut")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_stopping_twice_is_harmless(served: Served) -> None:
    await served.gateway.stop(0.1)
    await served.gateway.stop(0.1)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:0", "[::]:0", "example.com:0"])
def test_an_address_beyond_loopback_needs_to_be_allowed(host: LocalHost, address: str) -> None:
    with pytest.raises(UsageError, match="loopback"):
        Gateway(host, acceptor=None, address=address)
    Gateway(host, acceptor=None, address=address, insecure=True)


@pytest.mark.parametrize("address", ["", "localhost:", ":50051", "localhost:http", "http://localhost:1"])
def test_what_is_no_address_is_refused(host: LocalHost, address: str) -> None:
    with pytest.raises(UsageError, match=r"^address ") as refused:
        Gateway(host, acceptor=None, address=address)
    assert refused.value.field == "address"


async def test_a_gateway_listens_on_a_socket_in_the_file_system(host: LocalHost, tmp_path: Path) -> None:
    gateway = Gateway(host, acceptor=None, address=f"unix://{tmp_path}/my shop.sock")
    assert await gateway.start() == f"unix:{tmp_path}/my shop.sock"
    async with connect(gateway.address) as client:
        assert (await client.describe()).app == host.app.name
    await gateway.stop(0.1)


async def test_two_gateways_do_not_share_a_port_by_accident(host: LocalHost, served: Served) -> None:
    other = Gateway(host, acceptor=None, address=served.gateway.address)
    with pytest.raises(UsageError, match="is in use"):
        await other.start()
