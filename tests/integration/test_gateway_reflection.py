"""A generic client: it knows the address and nothing else, and learns the rest by reflection."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.apps.shelf import app, fresh_stock
from tests.gateways import Served, serving_locally


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    stock = fresh_stock()
    stock.counts["nut"] = 3
    async with serving_locally(app) as served:
        yield served


class GenericClient:
    """What a tool such as grpcurl does."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        return sorted(self._database.get_services())

    def call(self, service: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
        descriptor = self._method(service, method)
        rpc = self._channel.unary_unary(f"/{service}/{method}", **self._codecs(descriptor))
        return self._plain(rpc(self._request(descriptor, request), timeout=5))

    def stream(self, service: str, method: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        descriptor = self._method(service, method)
        rpc = self._channel.unary_stream(f"/{service}/{method}", **self._codecs(descriptor))
        for reply in rpc(self._request(descriptor, request), timeout=5):
            yield self._plain(reply)

    def _method(self, service: str, method: str) -> MethodDescriptor:
        return self._pool.FindServiceByName(service).methods_by_name[method]

    def _codecs(self, method: MethodDescriptor) -> dict[str, Any]:
        return {
            "request_serializer": lambda message: message.SerializeToString(),
            "response_deserializer": message_factory.GetMessageClass(method.output_type).FromString,
        }

    def _request(self, method: MethodDescriptor, request: dict[str, Any]) -> Any:
        return ParseDict(request, message_factory.GetMessageClass(method.input_type)(), descriptor_pool=self._pool)

    def _plain(self, message: Any) -> dict[str, Any]:
        return MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=self._pool)


@contextmanager
def generic_client(served: Served) -> Iterator[GenericClient]:
    with grpc.insecure_channel(served.gateway.address) as channel:
        yield GenericClient(channel)


GATEWAY = "fusion_cluster.v1.Gateway"
COUNT = {"service": "Shelf", "method": "count", "arguments": {"json": '["nut"]'}}


async def test_a_generic_client_lists_the_services(served: Served) -> None:
    def run() -> list[str]:
        with generic_client(served) as client:
            return client.services()

    services = await asyncio.to_thread(run)
    assert GATEWAY in services
    assert "grpc.health.v1.Health" in services


async def test_a_generic_client_describes_and_reads(served: Served) -> None:
    def run() -> tuple[dict[str, Any], dict[str, Any]]:
        with generic_client(served) as client:
            return client.call(GATEWAY, "Describe", {}), client.call(GATEWAY, "Call", COUNT)

    description, reply = await asyncio.to_thread(run)
    names = [method["name"] for method in description["services"][0]["methods"]]
    assert "count" in names
    assert json.loads(reply["value"]["json"]) == 3


async def test_a_generic_client_watches_a_change(served: Served) -> None:
    seen: list[int] = []
    has_first = threading.Event()

    def run() -> None:
        with generic_client(served) as client:
            for update in client.stream(GATEWAY, "Watch", {"call": COUNT}):
                seen.append(json.loads(update["value"]["json"]))
                has_first.set()
                if len(seen) == 2:
                    return

    watching = asyncio.ensure_future(asyncio.to_thread(run))
    assert await asyncio.to_thread(has_first.wait, 5)
    await served.execute("Shelf.put", "nut", 4)
    await watching
    assert seen == [3, 4]


async def test_reflection_answers_under_its_newer_name_too(served: Served) -> None:
    ask = served.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await ask.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    reply = await ask.read()
    assert isinstance(reply, reflection_pb2.ServerReflectionResponse)
    assert GATEWAY in [service.name for service in reply.list_services_response.service]
    await ask.done_writing()
    assert await ask.read() is grpc.aio.EOF
