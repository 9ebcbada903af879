"""Who a client of a gateway is: nobody, whatever it says; the trace that it is in is taken from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from fusion_cluster import App, Call, Next
from fusion_cluster.client import connect
from fusion_cluster.middleware import acting_as, carrying, current_principal
from fusion_cluster.v1 import gateway_pb2_grpc
from tests.apps.mailboxes import Boxes, fresh_post
from tests.clients import fronted
from tests.gateways import call_request, execute_request


@asynccontextmanager
async def channel(address: str) -> AsyncIterator[gateway_pb2_grpc.GatewayAsyncStub]:
    async with grpc.aio.insecure_channel(address) as opened:
        yield gateway_pb2_grpc.GatewayStub(opened)


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_client_is_nobody_whoever_has_started_the_gateway() -> None:
    post = fresh_post()
    post.private = {1}
    with acting_as("root"):
        async with fronted(App("mailboxes", services=[Boxes])) as front, channel(front.address) as stub:
            assert await front.cluster.service(Boxes).read(1) == "1#0@root()"
            metadata = (("principal", '"root"'),)
            reply = await stub.Call(call_request("Boxes.read", 1), metadata=metadata)
            assert reply.value.json == '"1#0@None()"'
            executed = await stub.Execute(execute_request("Boxes.whose", 1), metadata=metadata)
            assert executed.result.json == "null"
            async with connect(front.address) as client:
                for _ in range(2):
                    assert await client.service(Boxes).read(1) == "1#0@None()"
                    assert await client.call("Boxes.even", 1) == "1#0@None()"
                assert await client.service(Boxes).whose(1) is None


async def test_the_trace_of_a_client_goes_on_and_nothing_else_does() -> None:
    fresh_post()
    seen: list[tuple[str, Any, dict[str, str]]] = []

    async def watching(call: Call, next: Next) -> Any:
        seen.append((call.name, current_principal.get(), dict(call.baggage)))
        return await next(call)

    app = App("mailboxes", services=[Boxes], middleware=[watching])
    async with fronted(app) as front, channel(front.address) as stub:
        metadata = (("traceparent", TRACEPARENT), ("tenant", "blue"))
        await stub.Call(call_request("Boxes.read", 1), metadata=metadata)
        await stub.Execute(execute_request("Boxes.whose", 1), metadata=metadata)
        async with connect(front.address) as client:
            with carrying(traceparent=TRACEPARENT, tenant="blue"):
                await client.service(Boxes).read(2)
                await client.service(Boxes).whose(2)
    assert [baggage for _, _, baggage in seen] == [{"traceparent": TRACEPARENT}] * 4
    assert {principal for _, principal, _ in seen} == {None}
