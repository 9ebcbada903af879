"""Gateways for tests: a real gRPC server on a free port, and what a plain client says to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import msgspec
from google.rpc import status_pb2

from fusion_cluster.app import App
from fusion_cluster.host import Host
from fusion_cluster.v1 import gateway_pb2, gateway_pb2_grpc
from fusion_cluster.wire.status import status_from_metadata, status_to_error
from fusion_router.gateway import Acceptor, Gateway, GatewayLimits


@dataclass
class Served:
    """A gateway, what is behind it and a channel to it."""

    host: Host
    gateway: Gateway
    channel: grpc.aio.Channel

    @property
    def stub(self) -> gateway_pb2_grpc.GatewayAsyncStub:
        return gateway_pb2_grpc.GatewayStub(self.channel)

    async def call(self, name: str, *arguments: Any) -> Any:
        reply = await self.stub.Call(call_request(name, *arguments))
        return json.loads(reply.value.json)

    async def execute(self, name: str, *arguments: Any, command_id: str = "") -> gateway_pb2.ExecuteReply:
        return await self.stub.Execute(execute_request(name, *arguments, command_id=command_id))

    def watch(
        self, name: str, *arguments: Any, min_interval_ms: int = 0
    ) -> grpc.aio.UnaryStreamCall[gateway_pb2.WatchRequest, gateway_pb2.Update]:
        request = gateway_pb2.WatchRequest(call=call_request(name, *arguments), min_interval_ms=min_interval_ms)
        return self.stub.Watch(request)


@asynccontextmanager
async def serving(
    host: Host, acceptor: Acceptor | None = None, limits: GatewayLimits | None = None
) -> AsyncIterator[Served]:
    """Serve a host on a free port."""
    gateway = Gateway(host, acceptor=acceptor, address="127.0.0.1:0", limits=limits)
    address = await gateway.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Served(host, gateway, channel)
    finally:
        await gateway.stop(0.5)


@asynccontextmanager
async def serving_locally(app: App, limits: GatewayLimits | None = None) -> AsyncIterator[Served]:
    """Serve an app from one graph in this process; its invariants hold at the end."""
    async with app.local(strict=False) as host:
        async with serving(host, limits=limits) as served:
            yield served
        host.graph.validate()


def call_request(name: str, *arguments: Any) -> gateway_pb2.CallRequest:
    service, _, method = name.partition(".")
    return gateway_pb2.CallRequest(service=service, method=method, arguments=json_payload(*arguments))


def execute_request(name: str, *arguments: Any, command_id: str = "") -> gateway_pb2.ExecuteRequest:
    service, _, method = name.partition(".")
    return gateway_pb2.ExecuteRequest(
        service=service, method=method, arguments=json_payload(*arguments), command_id=command_id
    )


def json_payload(*arguments: Any) -> gateway_pb2.Payload:
    return gateway_pb2.Payload(json=json.dumps(arguments))


def msgpack_payload(*arguments: Any) -> gateway_pb2.Payload:
    return gateway_pb2.Payload(msgpack=msgspec.msgpack.encode(arguments))


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The status with details that must come with each of our errors."""
    status = status_from_metadata(error.trailing_metadata())
    assert status is not None, error
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return status


def field_of(error: grpc.aio.AioRpcError) -> str:
    """The field that a `BadRequest` detail names."""
    return status_to_error(status_of(error)).field
