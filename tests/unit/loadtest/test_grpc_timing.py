"""The interceptor over a real server: what is reported, and under which kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from fusion_cluster.v1 import gateway_pb2, gateway_pb2_grpc, session_pb2
from loadtest.interceptor import Timing
from loadtest.payloads import call_request, watch_request


class TwoUpdates(gateway_pb2_grpc.GatewayServicer):
    """Answers every call, refuses every second service, sends two updates and waits."""

    def Call(self, request: gateway_pb2.CallRequest, context: grpc.ServicerContext) -> gateway_pb2.CallReply:
        if request.service == "Nothing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return gateway_pb2.CallReply(value=gateway_pb2.Payload(json="1"), version=1)

    def Watch(self, request: gateway_pb2.WatchRequest, context: grpc.ServicerContext) -> Iterator[gateway_pb2.Update]:
        if request.call.service != "Silent":
            yield gateway_pb2.Update(version=1)
            yield gateway_pb2.Update(version=2)
        if request.call.service == "Broken":
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        has_left = threading.Event()
        context.add_callback(has_left.set)
        has_left.wait(10)

    def Execute(self, request: gateway_pb2.ExecuteRequest, context: grpc.ServicerContext) -> gateway_pb2.ExecuteReply:
        return gateway_pb2.ExecuteReply()

    def Describe(
        self, request: gateway_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> gateway_pb2.DescribeReply:
        return gateway_pb2.DescribeReply()

    def Session(self, request_iterator: object, context: grpc.ServicerContext) -> Iterator[session_pb2.ServerFrame]:
        return iter(())


@pytest.fixture
def reported() -> list[tuple[str, str, bool]]:
    return []


@pytest.fixture
def gateway(reported: list[tuple[str, str, bool]]) -> Iterator[Any]:
    def fire(*, request_type: str, name: str, exception: BaseException | None, **_rest: object) -> None:
        reported.append((request_type, name, exception is None))

    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    gateway_pb2_grpc.add_GatewayServicer_to_server(TwoUpdates(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield gateway_pb2_grpc.GatewayStub(grpc.intercept_channel(channel, Timing(fire)))
    server.stop(0).wait()


def test_a_unary_rpc_is_one_event(gateway: Any, reported: list[tuple[str, str, bool]]) -> None:
    assert gateway.Call(call_request("A.b")).value.json == "1"
    assert reported == [("call", "A.b", True)]


def test_a_failed_rpc_is_reported_as_failed_and_raises(gateway: Any, reported: list[tuple[str, str, bool]]) -> None:
    with pytest.raises(grpc.RpcError):
        gateway.Call(call_request("Nothing.b"))
    assert reported == [("call", "Nothing.b", False)]


def test_a_stream_is_its_first_update_then_its_gaps_and_no_failure_when_its_user_ends_it(
    gateway: Any, reported: list[tuple[str, str, bool]]
) -> None:
    stream = gateway.Watch(watch_request("A.b"))
    assert [next(stream).version, next(stream).version] == [1, 2]
    stream.cancel()
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert reported == [("watch", "A.b", True), ("gap", "A.b", True)]


def test_a_stream_whose_time_is_over_has_not_failed(gateway: Any, reported: list[tuple[str, str, bool]]) -> None:
    with pytest.raises(grpc.RpcError):
        list(gateway.Watch(watch_request("A.b"), timeout=0.3))
    assert reported == [("watch", "A.b", True), ("gap", "A.b", True)]


def test_a_stream_that_gave_nothing_in_all_its_time_has_failed(
    gateway: Any, reported: list[tuple[str, str, bool]]
) -> None:
    with pytest.raises(grpc.RpcError):
        list(gateway.Watch(watch_request("Silent.b"), timeout=0.3))
    assert reported == [("watch", "Silent.b", False)]


def test_a_stream_that_breaks_is_a_failure(gateway: Any, reported: list[tuple[str, str, bool]]) -> None:
    with pytest.raises(grpc.RpcError):
        list(gateway.Watch(watch_request("Broken.b")))
    assert reported == [("watch", "Broken.b", True), ("gap", "Broken.b", True), ("gap", "Broken.b", False)]
