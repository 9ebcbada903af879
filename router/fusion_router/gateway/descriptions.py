"""Describing an app's services: names, documentation, types and JSON Schemas, from the signatures of their methods."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from fusion_cluster.app import App, MethodSpec
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UnknownService, UsageError
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import encode_json
from fusion_cluster.wire.description import json_schema, type_name

_KINDS = {
    "compute": gateway_pb2.MethodDescription.KIND_COMPUTE,
    "command": gateway_pb2.MethodDescription.KIND_COMMAND,
}


def describe(app: App, service: str = "") -> gateway_pb2.DescribeReply:
    """The description of one service, or of all of them in the order of the app.

    Raises:
        UnknownService: no service of this name.
    """
    if service and service not in app.services:
        known = ", ".join(sorted(app.services)) or "none"
        raise UnknownService(f"no service {service!r} in the app {app.name!r}; there are: {known}", field="service")
    names = [service] if service else list(app.services)
    return gateway_pb2.DescribeReply(app=app.name, services=[_service(app, name) for name in names])


def _service(app: App, name: str) -> gateway_pb2.ServiceDescription:
    service = app.services[name]
    methods = [_method(spec) for spec in app.methods.values() if spec.service is service]
    return gateway_pb2.ServiceDescription(name=name, documentation=_documentation(service), methods=methods)


def _method(spec: MethodSpec) -> gateway_pb2.MethodDescription:
    signature = spec.signature
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
        name=spec.name.partition(".")[2],
        kind=_KINDS[spec.kind],
        documentation=signature.documentation,
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
