"""`fusion-cluster execute`: runs a command."""

from __future__ import annotations

from typing import Annotated

import typer

from fusion_cluster.cli.gateway import ask
from fusion_cluster.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT_S,
    Address,
    Arguments,
    Json,
    Name,
    Timeout,
    payload,
)
from fusion_cluster.cli.output import complain
from fusion_cluster.cli.reads import show_value
from fusion_cluster.runtime import SYSTEM


def execute(
    method: Name,
    arguments: Arguments = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    command_id: Annotated[str | None, typer.Option(help="The id of an earlier try of the same command.")] = None,
    as_json: Json = False,
) -> None:
    """Run a command and show its result: fusion-cluster execute Products.set_price 3 9.90."""
    sent = payload(arguments)
    reply = ask(address, timeout, lambda rpcs: rpcs.execute(method, sent, command_id or SYSTEM.entropy.new_id()))
    if reply.replayed and not as_json:
        complain("this command ran before; the result is from that run")
    show_value(reply.result.json, as_json=as_json)
