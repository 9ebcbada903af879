"""Requests of the gateway's contract, with JSON arguments."""

from __future__ import annotations

import json
import uuid

from fusion_cluster.v1 import gateway_pb2

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def arguments_payload(arguments: tuple[Json, ...]) -> gateway_pb2.Payload:
    """The arguments, in the order of the method's parameters."""
    return gateway_pb2.Payload(json=json.dumps(list(arguments), separators=(",", ":")))


def call_request(method: str, *arguments: Json) -> gateway_pb2.CallRequest:
    """A read of "Service.method"."""
    service, _, name = method.partition(".")
    return gateway_pb2.CallRequest(service=service, method=name, arguments=arguments_payload(arguments))


def watch_request(method: str, *arguments: Json, min_interval_ms: int = 0) -> gateway_pb2.WatchRequest:
    """A watch of "Service.method"."""
    return gateway_pb2.WatchRequest(call=call_request(method, *arguments), min_interval_ms=min_interval_ms)


def execute_request(method: str, *arguments: Json, command_id: str | None = None) -> gateway_pb2.ExecuteRequest:
    """A command "Service.method", with an id of its own unless one is given (for a retry)."""
    service, _, name = method.partition(".")
    return gateway_pb2.ExecuteRequest(
        service=service,
        method=name,
        arguments=arguments_payload(arguments),
        command_id=command_id or uuid.uuid4().hex,
    )


def request_name(request: object) -> str:
    """What the statistics call a request: the method it is for, without its arguments."""
    if isinstance(request, gateway_pb2.WatchRequest):
        request = request.call
    if isinstance(request, gateway_pb2.CallRequest | gateway_pb2.ExecuteRequest):
        return f"{request.service}.{request.method}"
    return type(request).__name__


def value_of(payload: gateway_pb2.Payload) -> Json:
    """The value in a reply, which came in the encoding of its request."""
    value: Json = json.loads(payload.json)
    return value
