"""`Execute` over a real gRPC server: commands, once per command id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from fusion_router.gateway import GatewayLimits
from tests.apps.shelf import Stock, app, fresh_stock
from tests.gateways import Served, execute_request, field_of, serving_locally
from tests.waiting import until


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def served(stock: Stock) -> AsyncIterator[Served]:
    async with serving_locally(app, GatewayLimits(max_commands_in_flight=3)) as served:
        yield served


async def refused(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_command_is_carried_out_and_gives_its_result(served: Served, stock: Stock) -> None:
    reply = await served.execute("Shelf.put", "nut", 3)
    assert json.loads(reply.result.json) == 0
    assert not reply.replayed
    assert stock.counts["nut"] == 3
    assert await served.call("Shelf.count", "nut") == 3


async def test_the_same_command_without_an_id_runs_again(served: Served, stock: Stock) -> None:
    await served.execute("Shelf.put", "nut", 3)
    await served.execute("Shelf.put", "nut", 3)
    assert stock.executed == ["nut", "nut"]


async def test_a_retry_with_the_same_id_gives_the_first_result_and_runs_nothing(served: Served, stock: Stock) -> None:
    first = await served.execute("Shelf.put", "nut", 3, command_id="one")
    again = await served.execute("Shelf.put", "nut", 3, command_id="one")
    assert stock.executed == ["nut"]
    assert again.result == first.result
    assert again.replayed


async def test_a_retry_while_the_first_still_runs_joins_it(served: Served, stock: Stock) -> None:
    tries = [asyncio.ensure_future(served.execute("Shelf.slow", "nut", command_id="one")) for _ in range(2)]
    await until(lambda: stock.executed == ["nut"])
    stock.gate.set()
    replies = await asyncio.gather(*tries)
    assert [json.loads(reply.result.json) for reply in replies] == ["done nut"] * 2
    assert stock.executed == ["nut"]
    assert sorted(reply.replayed for reply in replies) == [False, True]


async def test_a_command_goes_on_when_its_client_leaves_and_a_retry_gets_the_result(
    served: Served, stock: Stock
) -> None:
    leaving = served.stub.Execute(execute_request("Shelf.slow", "nut", command_id="one"))
    waiting = asyncio.ensure_future(leaving.wait_for_connection())
    await until(lambda: stock.executed == ["nut"])
    leaving.cancel()
    waiting.cancel()
    stock.gate.set()
    reply = await served.execute("Shelf.slow", "nut", command_id="one")
    assert json.loads(reply.result.json) == "done nut"
    assert reply.replayed
    assert stock.executed == ["nut"]


async def test_an_id_of_another_command_is_refused(served: Served, stock: Stock) -> None:
    await served.execute("Shelf.put", "nut", 3, command_id="one")
    error = await refused(served.stub.Execute(execute_request("Shelf.put", "nut", 4, command_id="one")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == "command_id"
    assert stock.counts["nut"] == 3


async def test_a_retry_without_an_id_is_refused(served: Served, stock: Stock) -> None:
    request = execute_request("Shelf.put", "nut", 4)
    request.is_retry = True
    error = await refused(served.stub.Execute(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == "command_id"
    assert "nut" not in stock.counts


async def test_a_command_that_failed_runs_again_when_retried(served: Served, stock: Stock) -> None:
    for _ in range(2):
        error = await refused(served.stub.Execute(execute_request("Shelf.refuse", "nut", command_id="one")))
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert error.details() == "nut is not to be touched"
    assert stock.executed == ["nut", "nut"]


@pytest.mark.parametrize(
    ("name", "arguments", "code", "field"),
    [
        ("Shelf.nowhere", ["nut"], grpc.StatusCode.NOT_FOUND, "method"),
        ("Nowhere.put", ["nut"], grpc.StatusCode.NOT_FOUND, "service"),
        ("Shelf.count", ["nut"], grpc.StatusCode.NOT_FOUND, "method"),
        ("Shelf.put", ["nut"], grpc.StatusCode.INVALID_ARGUMENT, "count"),
        ("Shelf.put", ["nut", "three"], grpc.StatusCode.INVALID_ARGUMENT, "count"),
    ],
)
async def test_what_cannot_be_executed_is_refused(
    served: Served, stock: Stock, name: str, arguments: list[object], code: grpc.StatusCode, field: str
) -> None:
    error = await refused(served.stub.Execute(execute_request(name, *arguments)))
    assert error.code() is code
    assert field_of(error) == field
    assert not stock.executed


async def test_more_commands_than_may_run_at_once_are_refused(served: Served, stock: Stock) -> None:
    running = [asyncio.ensure_future(served.execute("Shelf.slow", str(index))) for index in range(3)]
    await until(lambda: len(stock.executed) == 3)
    error = await refused(served.stub.Execute(execute_request("Shelf.put", "nut", 1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stock.gate.set()
    await asyncio.gather(*running)
    await served.execute("Shelf.put", "nut", 1)


async def test_a_stopping_gateway_lets_commands_finish(served: Served, stock: Stock) -> None:
    running = asyncio.ensure_future(served.execute("Shelf.slow", "nut"))
    await until(lambda: stock.executed == ["nut"])
    stopping = asyncio.ensure_future(served.gateway.stop(5.0))
    await asyncio.sleep(0)
    stock.gate.set()
    assert json.loads((await running).result.json) == "done nut"
    await stopping
