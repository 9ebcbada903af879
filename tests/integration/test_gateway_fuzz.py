"""Whatever a client sends, it is told what is wrong with it: never INTERNAL, never UNKNOWN."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import grpc
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_cluster.v1 import gateway_pb2
from tests.apps.shelf import app, fresh_stock
from tests.gateways import Served, serving_locally, status_of

GATEWAY = "/fusion_cluster.v1.Gateway/"
SAFE_METHODS = ["count", "item", "search", "anything", "nothing", "put"]

plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
queries = st.fixed_dictionaries({"tags": st.lists(plain, max_size=3)}, optional={"below": plain})
arguments = st.lists(plain | queries | st.just("nut"), max_size=4)
nested = st.integers(1, 3_000)
payloads = st.one_of(
    arguments.map(lambda items: gateway_pb2.Payload(json=json.dumps(items))),
    arguments.map(lambda items: gateway_pb2.Payload(msgpack=msgspec.msgpack.encode(items))),
    st.text(max_size=50).map(lambda text: gateway_pb2.Payload(json=text)),
    st.binary(max_size=50).map(lambda data: gateway_pb2.Payload(msgpack=data)),
    st.binary(max_size=10).map(lambda data: gateway_pb2.Payload(arrow=data)),
    nested.map(lambda depth: gateway_pb2.Payload(json="[" * depth + "]" * depth)),
    nested.map(lambda depth: gateway_pb2.Payload(json='[{"tags":' * depth)),
    nested.map(lambda depth: gateway_pb2.Payload(msgpack=b"\x91" * depth + b"\x00")),
    st.none().map(lambda _: gateway_pb2.Payload()),
)
services = st.sampled_from(["Shelf"] * 8 + ["", "shelf", "Shelf.count", "__class__"]) | st.text(max_size=2_000)
methods = st.sampled_from(SAFE_METHODS * 2 + ["", "__init__", "nowhere"]) | st.text(max_size=2_000)
calls = st.builds(gateway_pb2.CallRequest, service=services, method=methods, arguments=payloads)
requests: st.SearchStrategy[tuple[str, bytes]] = st.one_of(
    st.tuples(st.just("Call"), calls.map(lambda call: call.SerializeToString())),
    st.tuples(
        st.just("Execute"),
        st.builds(
            gateway_pb2.ExecuteRequest,
            service=services,
            method=methods,
            arguments=payloads,
            command_id=st.text(max_size=300),
        ).map(lambda request: request.SerializeToString()),
    ),
    st.tuples(
        st.just("Describe"), services.map(lambda name: gateway_pb2.DescribeRequest(service=name).SerializeToString())
    ),
    st.tuples(st.sampled_from(["Call", "Execute", "Describe"]), st.binary(max_size=100)),
)
ALLOWED = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}


def check_refusal(error: grpc.aio.AioRpcError) -> None:
    assert error.code() in ALLOWED, f"{error.code()}: {error.details()}"
    assert status_of(error).message


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def served(runner: asyncio.Runner) -> Iterator[Served]:
    fresh_stock()
    serving = serving_locally(app)
    yield runner.run(serving.__aenter__())
    runner.run(serving.__aexit__(None, None, None))


@given(request=requests)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_is_an_internal_error(runner: asyncio.Runner, served: Served, request: tuple[str, bytes]) -> None:
    async def send() -> None:
        rpc, message = request
        try:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = served.channel.unary_unary(GATEWAY + rpc)
            await call(message, timeout=5)
        except grpc.aio.AioRpcError as error:
            check_refusal(error)

    runner.run(send())


@given(call=calls)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_watch_request_is_an_internal_error(
    runner: asyncio.Runner, served: Served, call: gateway_pb2.CallRequest
) -> None:
    async def send() -> None:
        request = gateway_pb2.WatchRequest(call=call).SerializeToString()
        open_watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = served.channel.unary_stream(GATEWAY + "Watch")
        watch = open_watch(request, timeout=5)
        try:
            update = await watch.read()
            assert isinstance(update, bytes)
            assert not gateway_pb2.Update.FromString(update).HasField("error")
        except grpc.aio.AioRpcError as error:
            check_refusal(error)
        watch.cancel()

    runner.run(send())
