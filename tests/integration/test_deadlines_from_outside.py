"""A client's time is up: what it asked for is given up in the cluster, whichever way it came in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from fusion_cluster import App, ComputeService, command, compute_method, value_of
from fusion_cluster.client import Client, connect
from fusion_cluster.errors import DeadlineExceeded
from fusion_cluster.v1 import gateway_pb2, gateway_pb2_grpc
from tests.clients import fronted
from tests.waiting import until

TIMEOUT_S = 2.0

running: list[str] = []


class Deep(ComputeService):
    """Each key is on some shard, and the bottom never ends."""

    @compute_method
    async def get(self, number: int) -> int:
        running.append("get")
        try:
            if number < 6:
                return await self.get(number + 1)
            await asyncio.Event().wait()
            return 0
        finally:
            running.remove("get")

    @compute_method(offload="thread")
    def in_a_thread(self, number: int) -> int:
        running.append("thread")
        try:
            return value_of(self.get(number))
        finally:
            running.remove("thread")

    @command
    async def read_and_run(self, number: int) -> int:
        running.append("command")
        try:
            return await self.get(number)
        finally:
            running.remove("command")


async def typed(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.service(Deep).get(1)


async def by_name(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.call("Deep.get", 1)


async def in_a_thread(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.service(Deep).in_a_thread(1)


async def typed_command(client: Client) -> None:
    with pytest.raises(DeadlineExceeded, match="nothing is committed"):
        await client.service(Deep).read_and_run(1)


async def command_by_name(client: Client) -> None:
    with pytest.raises(DeadlineExceeded, match="nothing is committed"):
        await client.execute("Deep.read_and_run", 1)


WAYS = [typed, by_name, in_a_thread, typed_command, command_by_name]


@pytest.mark.parametrize("way", WAYS)
async def test_a_clients_time_is_that_of_all_it_asks_for(way: Callable[[Client], Awaitable[None]]) -> None:
    running.clear()
    async with fronted(App("deep", [Deep]), shards=3) as front, connect(front.address) as warm:
        await warm.describe()
        async with connect(front.address, timeout_s=TIMEOUT_S) as client:
            await way(client)
        await until(lambda: not running)


async def test_a_call_and_a_watch_of_any_grpc_client() -> None:
    running.clear()
    async with fronted(App("deep", [Deep]), shards=3) as front, grpc.aio.insecure_channel(front.address) as channel:
        stub = gateway_pb2_grpc.GatewayStub(channel)
        call = gateway_pb2.CallRequest(service="Deep", method="get", arguments=gateway_pb2.Payload(json="[1]"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Call(call, timeout=TIMEOUT_S)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: not running)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in stub.Watch(gateway_pb2.WatchRequest(call=call), timeout=TIMEOUT_S):
                pass
        await until(lambda: not running)
