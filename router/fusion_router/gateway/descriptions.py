"""Descriptions of services from their methods' signatures: names, documentation, types and JSON Schemas."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from fusion_cluster.app_definition import AppDefinition
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import encode_json
from fusion_cluster.wire.description import json_schema, type_name

_KINDS = {
    "compute": gateway_pb2.MethodDescription.KIND_COMPUTE,
    "command": gateway_pb2.MethodDescription.KIND_COMMAND,
}


def describe(app: AppDefinition, service: str = "") -> gateway_pb2.DescribeReply:
    """Describe one service, or all of them in the order of the app.

    Raises:
        UnknownService: there is no service of this name.
    """
    services = [app.methods.service(service)] if service else list(app.services.values())
    return gateway_pb2.DescribeReply(app=app.name, services=[_service(app, one) for one in services])


def _service(app: AppDefinition, service: type[ComputeService]) -> gateway_pb2.ServiceDescription:
    methods = [_method(method) for method in app.methods.of(service) if method.kind in _KINDS]
    return gateway_pb2.ServiceDescription(
        name=service.service_name, documentation=_documentation(service), methods=methods
    )


def _method(method: Method) -> gateway_pb2.MethodDescription:
    signature = method.signature
    parameters = [
        gateway_pb2.ParameterDescription(
            name=parameter.name,
            type=type_name(parameter.type),
            schema=_schema(parameter.type),
            required=parameter.is_required,
            default_json="" if parameter.is_required else _default(parameter.default),
        )
        for parameter in signature.parameters
    ]
    return gateway_pb2.MethodDescription(
        name=method.method_name,
        kind=_KINDS[method.kind],
        documentation=method.documentation,
        parameters=parameters,
        result_type=type_name(signature.result_type),
        result_schema=_schema(signature.result_type),
    )


def _documentation(service: type[ComputeService]) -> str:
    return inspect.cleandoc(service.__doc__) if service.__doc__ and "__doc__" in service.__dict__ else ""


def _schema(hint: Any) -> str:
    return msgspec.json.encode(json_schema(hint)).decode()


def _default(value: object) -> str:
    try:
        return encode_json(value)
    except UsageError:
        return ""
