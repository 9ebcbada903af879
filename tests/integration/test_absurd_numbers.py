"""Numbers that no clock can count, or that JSON cannot hold, from callers or over the wire: never our fault."""

from __future__ import annotations

import math

import grpc
import pytest

from fusion_cluster.client import connect
from tests.apps.shelf import Shelf, app, fresh_stock
from tests.clients import fronted
from tests.gateways import Served, call_request, execute_request, json_payload, serving_locally, status_of


@pytest.mark.parametrize("timeout_s", [None, math.inf, 1e12, 10**400])
async def test_a_timeout_that_no_clock_can_count_is_no_limit(timeout_s: float | None) -> None:
    fresh_stock()
    async with fronted(app) as front, connect(front.address, timeout_s=timeout_s) as client:
        shelf = client.service(Shelf)
        assert await client.call("Shelf.count", "nut") == await shelf.count("nut") == 0
        assert await client.execute("Shelf.put", "nut", 2) == 0
        assert await shelf.put("nut", 3) == 2
        assert (await anext(client.watch("Shelf.count", "nut"))).value == 3


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN", "Infinity", str(2**64)])
@pytest.mark.parametrize("method", ["search", "put"])
async def test_a_number_of_json_that_is_out_of_range_is_the_callers_error(number: str, method: str) -> None:
    fresh_stock()
    async with serving_locally(app) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await sent(served, method, number)
        assert status_of(refused.value).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def sent(served: Served, method: str, number: str) -> object:
    arguments = json_payload("nut", "N") if method == "put" else json_payload({"tags": []}, "N")
    arguments.json = arguments.json.replace('"N"', number)
    if method == "put":
        command = execute_request("Shelf.put")
        command.arguments.CopyFrom(arguments)
        return await served.stub.Execute(command)
    request = call_request("Shelf.search")
    request.arguments.CopyFrom(arguments)
    return await served.stub.Call(request)


@pytest.mark.parametrize("min_interval_ms", [0, 1, 2**32 - 1])
async def test_a_watch_of_another_client_may_ask_for_any_interval(min_interval_ms: int) -> None:
    fresh_stock()
    async with serving_locally(app) as served:
        watch = served.watch("Shelf.count", "nut", min_interval_ms=min_interval_ms)
        update = await anext(aiter(watch))
        assert update.value.json == "0"
        watch.cancel()


@pytest.mark.parametrize("timeout_s", [1e-9, 3e9])
async def test_a_deadline_of_another_client_is_met_or_missed_and_never_our_fault(timeout_s: float) -> None:
    fresh_stock()
    async with serving_locally(app) as served:
        try:
            reply = await served.stub.Call(call_request("Shelf.count", "nut"), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        else:
            assert reply.value.json == "0"
