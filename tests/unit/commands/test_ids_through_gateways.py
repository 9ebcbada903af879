"""B.6 through gateways: `Execute` with the same id is answered with the first result, whichever gateway is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from fusion_cluster import App, Database
from fusion_cluster.testing import LocalCluster
from fusion_cluster.v1 import gateway_pb2
from tests.apps.counters import Base, Counters, counts
from tests.gateways import Served, execute_request, field_of, serving, serving_locally, status_of
from tests.log_entries import logged

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

ID = "made by the client"


@asynccontextmanager
async def gateways(database_url: str) -> AsyncIterator[list[Served]]:
    """Two gateways, of two processes as it were, on one database."""
    apps = []
    for _ in range(2):
        database = Database(database_url)
        await database.create_tables(Base.metadata)
        apps.append(App("counters", [Counters], database=database))
    async with serving_locally(apps[0]) as first, serving_locally(apps[1]) as second:
        yield [first, second]


def runs(*gateways: Served) -> list[str]:
    return [name for gateway in gateways for name in gateway.host.service(Counters).runs]


@pytest.mark.both_databases
async def test_a_gateway_of_another_process_gives_the_first_result(database_url: str) -> None:
    async with gateways(database_url) as (first, second):
        for method, result in (("bump", "1"), ("add", "null"), ("think", '"a, 3"')):
            replies = [
                await gateway.execute(f"Counters.{method}", "a", command_id=method)
                for gateway in (first, second, first)
            ]
            assert [reply.replayed for reply in replies] == [False, True, True]
            assert {reply.result.json for reply in replies} == {result}
        assert runs(first, second) == ["bump", "add", "think"]


@pytest.mark.both_databases
async def test_gateways_that_are_asked_at_once_carry_it_out_once(database_url: str) -> None:
    async with gateways(database_url) as both:
        replies = await asyncio.gather(
            *(gateway.execute("Counters.bump", "a", command_id=ID) for gateway in both for _ in range(3))
        )
        assert sorted(reply.replayed for reply in replies) == [False, True, True, True, True, True]
        assert {reply.result.json for reply in replies} == {"1"}


async def test_a_gateway_that_was_started_again_gives_the_first_result(database_url: str) -> None:
    for turn in range(3):
        database = Database(database_url)
        await database.create_tables(Base.metadata)
        async with serving_locally(App("counters", [Counters], database=database)) as gateway:
            reply = await gateway.execute("Counters.bump", "a", command_id=ID)
            assert (reply.result.json, reply.replayed) == ("1", turn > 0)
            assert await gateway.call("Counters.count", "a") == 1


async def test_an_id_used_for_something_else_is_an_invalid_argument(database_url: str) -> None:
    async with gateways(database_url) as both:
        await both[0].execute("Counters.bump", "a", command_id=ID)
        for gateway in both:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gateway.execute("Counters.bump", "b", command_id=ID)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert field_of(caught.value) == "command_id"


async def test_arguments_may_be_spelled_in_another_way(database_url: str) -> None:
    async with gateways(database_url) as both:
        spellings = [
            '["a", {"x": "1.20", "y": "2"}, ["p", "q"], [1.0]]',
            '["a", {"y": "2.0", "x": "1.2"}, ["q", "p"], [1]]',
            ' [ "a" , {"x":"12e-1","y":"2.00"},["p","q","p"],[1e0]]',
        ]
        replies = [await execute_json(gateway, spelling) for spelling in spellings for gateway in both]
        assert [reply.replayed for reply in replies] == [False, *[True] * 5]


async def execute_json(gateway: Served, arguments: str) -> gateway_pb2.ExecuteReply:
    request = execute_request("Counters.take", command_id=ID)
    request.arguments.json = arguments
    return await gateway.stub.Execute(request)


async def test_an_error_after_the_commit_is_given_again(database_url: str) -> None:
    async with gateways(database_url) as both:
        statuses = []
        for gateway in (*both, *both):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gateway.execute("Counters.bump_and_fail", "a", command_id=ID)
            statuses.append(status_of(caught.value))
        assert {(status.code, status.message) for status in statuses} == {(statuses[0].code, statuses[0].message)}
        assert "for 1" in statuses[0].message
        assert runs(*both) == ["bump_and_fail"]


async def test_a_result_that_was_lost_is_said_to_be_lost(database_url: str) -> None:
    async with gateways(database_url) as both:
        for gateway in both:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gateway.execute("Counters.bump_to_something", "a", command_id=ID)
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        assert runs(*both) == ["bump_to_something"]


async def test_gateways_of_a_cluster(database_url: str) -> None:
    database = Database(database_url)
    await database.create_tables(Base.metadata)
    async with LocalCluster(App("counters", [Counters], database=database), shards=2, read_lease_s=0.3) as cluster:
        async with serving(cluster.new_host("gateway-1")) as first, serving(cluster.new_host("gateway-2")) as second:
            replies = [await gateway.execute("Counters.bump", "a", command_id=ID) for gateway in (first, second, first)]
            shard_id = cluster.owner("Counters.bump", "a").address.shard_id
            await cluster.kill_shard(shard_id)
            await cluster.start_shard(shard_id)
            replies.append(await second.execute("Counters.bump", "a", command_id=ID))
        assert [reply.replayed for reply in replies] == [False, True, True, True]
        assert {reply.result.json for reply in replies} == {"1"}
        assert await counts(database) == {"a": 1}
        assert await logged(database) == [ID]
