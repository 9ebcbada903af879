"""`Call` and `Describe` over a real gRPC server: values, encodings, and whatever a client can get wrong."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec
import pytest
from google.rpc import error_details_pb2

from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway import GatewayLimits
from tests.apps.shelf import Stock, app, fresh_stock
from tests.gateways import Served, call_request, field_of, json_payload, msgpack_payload, serving_locally, status_of
from tests.waiting import until


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def served(stock: Stock) -> AsyncIterator[Served]:
    async with serving_locally(app, GatewayLimits(max_arguments_bytes=10_000)) as served:
        yield served


async def refused(served: Served, request: gateway_pb2.CallRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.Call(request)
    assert "Traceback" not in str(caught.value.details())
    return caught.value


def raw_call(served: Served, rpc: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = served.channel.unary_unary(
        f"/fusion_cluster.v1.Gateway/{rpc}"
    )
    return call


async def test_a_call_gives_the_value(served: Served, stock: Stock) -> None:
    stock.counts["nut"] = 3
    assert await served.call("Shelf.count", "nut") == 3
    assert await served.call("Shelf.item", "nut", "2.50") == {"name": "nut", "count": 3, "price": "2.5"}
    assert await served.call("Shelf.nothing") is None


async def test_a_repeated_call_computes_nothing_and_has_the_same_version(served: Served, stock: Stock) -> None:
    replies = [await served.stub.Call(call_request("Shelf.count", "nut")) for _ in range(3)]
    assert stock.computed == ["nut"]
    assert {reply.version for reply in replies} == {replies[0].version}
    assert replies[0].version != 0


async def test_after_a_change_the_value_and_the_version_are_new(served: Served, stock: Stock) -> None:
    before = await served.stub.Call(call_request("Shelf.item", "nut"))
    await served.execute("Shelf.put", "nut", 7)
    after = await served.stub.Call(call_request("Shelf.item", "nut"))
    assert json.loads(before.value.json) is None
    assert json.loads(after.value.json)["count"] == 7
    assert after.version != before.version


async def test_the_reply_comes_in_the_encoding_of_the_request(served: Served, stock: Stock) -> None:
    stock.counts["nut"] = 3
    request = gateway_pb2.CallRequest(service="Shelf", method="item", arguments=msgpack_payload("nut"))
    for _ in range(2):
        packed = await served.stub.Call(request)
        assert packed.value.WhichOneof("encoding") == "msgpack"
        assert msgspec.msgpack.decode(packed.value.msgpack) == {"name": "nut", "count": 3, "price": "1.5"}
        text = await served.stub.Call(call_request("Shelf.item", "nut"))
        assert text.value.WhichOneof("encoding") == "json"
        assert text.version == packed.version, "one computed serves both"


async def test_arguments_with_defaults_may_be_left_out(served: Served, stock: Stock) -> None:
    stock.counts["nut"] = 1
    short = await served.stub.Call(call_request("Shelf.item", "nut"))
    full = await served.stub.Call(call_request("Shelf.item", "nut", "1.50"))
    assert short == full, "both spellings are one key"
    none = gateway_pb2.CallRequest(service="Shelf", method="nothing")
    assert (await served.stub.Call(none)).value.json == "null"


@pytest.mark.parametrize(
    ("name", "field"),
    [("Nowhere.count", "service"), ("Shelf.nowhere", "method"), (".", "service"), ("Shelf.put", "method")],
)
async def test_a_wrong_name_is_not_found(served: Served, name: str, field: str) -> None:
    error = await refused(served, call_request(name, "nut"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert field_of(error) == field


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("Shelf.count", [], "name"),
        ("Shelf.count", ["nut", 1], "arguments"),
        ("Shelf.count", [1], "name"),
        ("Shelf.count", [None], "name"),
        ("Shelf.item", ["nut", "much"], "price"),
        ("Shelf.item", ["nut", None], "price"),
        ("Shelf.search", [["a"]], "query"),
        ("Shelf.search", [{"tags": [1]}], "query"),
        ("Shelf.search", [{"tags": []}, 1.5], "limit"),
        ("Shelf.search", [{"tags": []}, 1, {"a": "b"}], "weights"),
    ],
)
@pytest.mark.parametrize("payload", [json_payload, msgpack_payload])
async def test_wrong_arguments_are_refused_and_the_field_is_named(
    served: Served, name: str, arguments: list[Any], field: str, payload: Any
) -> None:
    service, _, method = name.partition(".")
    request = gateway_pb2.CallRequest(service=service, method=method, arguments=payload(*arguments))
    error = await refused(served, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == field
    assert field in str(error.details()) or field == "arguments"


@pytest.mark.parametrize(
    "payload",
    [
        gateway_pb2.Payload(json=""),
        gateway_pb2.Payload(json="[1"),
        gateway_pb2.Payload(json='{"name": "nut"}'),
        gateway_pb2.Payload(json='"nut"'),
        gateway_pb2.Payload(msgpack=b""),
        gateway_pb2.Payload(msgpack=b"\xc1"),
        gateway_pb2.Payload(msgpack=b"\x91"),
        gateway_pb2.Payload(arrow=b"ARROW1"),
    ],
    ids=repr,
)
async def test_a_payload_that_is_no_array_of_arguments_is_refused(served: Served, payload: gateway_pb2.Payload) -> None:
    error = await refused(served, gateway_pb2.CallRequest(service="Shelf", method="count", arguments=payload))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) in {"arguments", "name"}


async def test_an_arrow_payload_is_told_what_is_supported(served: Served) -> None:
    request = gateway_pb2.CallRequest(service="Shelf", method="count", arguments=gateway_pb2.Payload(arrow=b""))
    error = await refused(served, request)
    assert "json or msgpack" in str(error.details())


async def test_oversized_arguments_are_refused(served: Served) -> None:
    error = await refused(served, call_request("Shelf.count", "n" * 10_001))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == "arguments"


@pytest.mark.parametrize("depth", [100, 3_000])
async def test_deeply_nested_arguments_are_refused(served: Served, depth: int) -> None:
    for payload in (
        gateway_pb2.Payload(json="[" * depth + "]" * depth),
        gateway_pb2.Payload(msgpack=b"\x91" * depth + b"\x90"),
    ):
        error = await refused(served, gateway_pb2.CallRequest(service="Shelf", method="anything", arguments=payload))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_that_is_no_message_is_refused(served: Served) -> None:
    for rpc in ("Call", "Execute", "Describe"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw_call(served, rpc)(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field_of(caught.value) == "request"


async def test_an_error_of_user_code_is_told_without_a_traceback(served: Served) -> None:
    error = await refused(served, call_request("Shelf.fail", "luck"))
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert error.details() == "no luck here"
    info = error_details_pb2.ErrorInfo()
    assert status_of(error).details[0].Unpack(info)
    assert info.reason == "ValueError"


async def test_an_error_that_passes_says_when_to_try_again(served: Served) -> None:
    error = await refused(served, call_request("Shelf.fail", "overloaded"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status_of(error).details)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 1.5


@pytest.mark.parametrize("name", ["Shelf.fail", "Shelf.unknown"])
async def test_an_internal_error_has_an_id_that_is_in_the_log(
    served: Served, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = await refused(served, call_request(name, *(["invariant"] if name == "Shelf.fail" else [])))
    assert error.code() is grpc.StatusCode.INTERNAL
    details = str(error.details())
    assert "secret" not in details
    error_id = details.split()[2].rstrip(";")
    records = [record for record in caplog.records if error_id in record.getMessage()]
    assert len(records) == 1
    assert records[0].exc_info is not None


async def test_an_error_with_a_long_message_still_arrives(served: Served) -> None:
    error = await refused(served, call_request("Shelf.fail", "ü" * 1_500))
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert str(error.details()).endswith("…")


async def test_a_client_that_leaves_cancels_the_computation(served: Served, stock: Stock) -> None:
    call = served.stub.Call(call_request("Shelf.forever", "nut"))
    waiting = asyncio.ensure_future(call.wait_for_connection())
    await until(lambda: stock.waiting == 1)
    call.cancel()
    await until(lambda: stock.waiting == 0)
    waiting.cancel()


async def test_a_deadline_ends_the_computation(served: Served, stock: Stock) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.Call(call_request("Shelf.forever", "nut"), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: stock.waiting == 0)


async def test_concurrent_calls_of_one_key_compute_once(served: Served, stock: Stock) -> None:
    assert await asyncio.gather(*(served.call("Shelf.count", "nut") for _ in range(100))) == [0] * 100
    assert stock.computed == ["nut"]


async def test_describe_tells_all_that_a_caller_needs(served: Served) -> None:
    reply = await served.stub.Describe(gateway_pb2.DescribeRequest())
    assert reply.app == "shelf"
    shelf, scales = reply.services
    assert (shelf.name, scales.name) == ("Shelf", "Scales")
    assert [method.name for method in scales.methods] == ["weight"]
    assert shelf.documentation == "What stands on the shelf.\n\nMore about it."
    methods = {method.name: method for method in shelf.methods}
    assert methods["count"].kind == gateway_pb2.MethodDescription.KIND_COMPUTE
    assert methods["count"].documentation == "How many there are."
    assert methods["put"].kind == gateway_pb2.MethodDescription.KIND_COMMAND
    name, price = methods["item"].parameters
    assert (name.name, name.type, name.required) == ("name", "str", True)
    assert json.loads(name.schema) == {"type": "string"}
    assert (price.name, price.type, price.required, price.default_json) == ("price", "Decimal", False, '"1.50"')
    assert methods["item"].result_type == "Item | None"
    assert "Item" in methods["item"].result_schema


async def test_describe_of_one_service(served: Served) -> None:
    reply = await served.stub.Describe(gateway_pb2.DescribeRequest(service="Shelf"))
    assert [service.name for service in reply.services] == ["Shelf"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.Describe(gateway_pb2.DescribeRequest(service="Nowhere"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_message_beyond_the_limit_is_refused_by_grpc(stock: Stock) -> None:
    async with serving_locally(app, GatewayLimits(max_message_bytes=10_000)) as served:
        error = await refused(served, call_request("Shelf.count", "n" * 10_000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_rpc_that_is_not_in_the_contract_is_unimplemented(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_call(served, "Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
