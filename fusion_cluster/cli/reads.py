"""`fusion-cluster call` and `fusion-cluster watch`: show values, once or as they change."""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from typing import Annotated, Any

import typer
from rich.text import Text

from fusion_cluster.cli.gateway import ask
from fusion_cluster.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT_S,
    Address,
    Arguments,
    Json,
    Name,
    Timeout,
    checked,
    payload,
)
from fusion_cluster.cli.output import console, say
from fusion_cluster.client.rpcs import PlainRpcs, as_interval
from fusion_cluster.quantities import MOST, as_finite_timeout
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.status import status_to_error

CONTEXT: dict[str, Any] = {"ignore_unknown_options": True}
"""Lets negative numbers be arguments."""


def call(
    method: Name,
    arguments: Arguments = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Read a value: fusion-cluster call Products.get 3."""
    sent = payload(arguments)
    reply = ask(address, timeout, lambda rpcs: rpcs.call(method, sent))
    show_value(reply.value.json, as_json=as_json)


def watch(
    method: Name,
    arguments: Arguments = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Annotated[
        float, typer.Option(help="Time limit in seconds for reaching a gateway.", callback=checked(as_finite_timeout))
    ] = DEFAULT_TIMEOUT_S,
    min_interval: Annotated[
        float, typer.Option(help="Shortest time between two updates, in seconds.", callback=checked(as_interval))
    ] = 0.0,
    count: Annotated[int, typer.Option(help="Stop after this number of updates; 0: no limit.", min=0, max=MOST)] = 0,
    as_json: Json = False,
) -> None:
    """Show a value now and after each change, until Ctrl-C."""
    sent = payload(arguments)

    async def follow(rpcs: PlainRpcs) -> None:
        last: gateway_pb2.Payload | None = None
        shown = 0
        async with aclosing(rpcs.watch(method, sent, min_interval)) as updates:
            async for update in updates:
                is_error = update.HasField("error")
                if not is_error and update.value == last:
                    continue  # repeated after a reconnect
                last = None if is_error else update.value
                show_update(update, as_json=as_json)
                shown += 1
                if shown == count:
                    return

    try:
        ask(address, timeout, follow)
    except KeyboardInterrupt:
        return


def show_value(text: str, *, as_json: bool) -> None:
    """Print a JSON value: unchanged, or indented and coloured."""
    if as_json:
        say(text)
    else:
        console(soft_wrap=True).print_json(text)


def show_update(update: gateway_pb2.Update, *, as_json: bool) -> None:
    """Print one update of a watch: a JSON object on a line, or the time and the value."""
    error = status_to_error(update.error) if update.HasField("error") else None
    if as_json:
        if error is None:
            line = f'{{"value":{update.value.json},"version":{update.version}}}'
        else:
            line = json.dumps({"error": {"code": error.code, "type": error.type, "message": error.message}})
        say(line)
        return
    text = Text(time.strftime("%H:%M:%S  "), style="dim")
    if error is None:
        text.append(update.value.json, style="not dim")
    else:
        text.append(f"{error.type or 'error'}: {error.message}", style="not dim red")
    console(soft_wrap=True).print(text)
