"""`fusion-cluster describe`: shows the services and methods of an app."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from fusion_cluster.cli.gateway import ask
from fusion_cluster.cli.options import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, Address, Json, Timeout
from fusion_cluster.cli.output import console, say
from fusion_cluster.v1 import gateway_pb2

_KINDS = {
    gateway_pb2.MethodDescription.KIND_COMPUTE: "compute",
    gateway_pb2.MethodDescription.KIND_COMMAND: "command",
}


def describe(
    service: Annotated[str, typer.Argument(help="One service; default: all.", show_default=False)] = "",
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Show the services, their methods, and the types of arguments and results."""
    reply = ask(address, timeout, lambda rpcs: rpcs.describe(service))
    if as_json:
        say(json.dumps(description(reply)))
        return
    out = console(soft_wrap=True)
    for one in reply.services:
        out.print(Text(one.name, style="bold"), Text(_first_line(one.documentation), style="dim"))
        for method in one.methods:
            out.print(_signature(method), Text(_first_line(method.documentation), style="dim"))


def description(reply: gateway_pb2.DescribeReply) -> dict[str, Any]:
    """Return a description as plain values, with the schemas as objects."""
    return {
        "app": reply.app,
        "services": [
            {
                "name": service.name,
                "documentation": service.documentation,
                "methods": [_method(method) for method in service.methods],
            }
            for service in reply.services
        ],
    }


def _method(method: gateway_pb2.MethodDescription) -> dict[str, Any]:
    parameters = []
    for parameter in method.parameters:
        plain = {
            "name": parameter.name,
            "type": parameter.type,
            "schema": json.loads(parameter.schema or "{}"),
            "required": parameter.required,
        }
        if parameter.default_json:
            plain["default"] = json.loads(parameter.default_json)
        parameters.append(plain)
    return {
        "name": method.name,
        "kind": _KINDS.get(method.kind, ""),
        "documentation": method.documentation,
        "parameters": parameters,
        "result_type": method.result_type,
        "result_schema": json.loads(method.result_schema or "{}"),
    }


def _signature(method: gateway_pb2.MethodDescription) -> Text:
    parameters = ", ".join(map(_parameter, method.parameters))
    text = Text("  ")
    text.append(f"{_KINDS.get(method.kind, ''):8}", style="cyan")
    text.append(method.name, style="bold")
    text.append(f"({parameters}) -> {method.result_type}")
    return text


def _parameter(parameter: gateway_pb2.ParameterDescription) -> str:
    text = f"{parameter.name}: {parameter.type}"
    return text if parameter.required else f"{text} = {parameter.default_json or '...'}"


def _first_line(documentation: str) -> str:
    return documentation.strip().split("\n", 1)[0]
