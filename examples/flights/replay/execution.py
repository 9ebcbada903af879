"""How a command reaches the app: through a host in this process, or through a gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fusion_cluster.client import Client
from fusion_cluster.host import Host

Execute = Callable[[str, Sequence[object], str], Awaitable[object]]
"""Runs the command of a full name with arguments and a command id; the same id never runs twice."""


def through_host(host: Host) -> Execute:
    """Commands run by a host: a local one, or a member of the cluster."""

    async def execute(name: str, arguments: Sequence[object], command_id: str) -> object:
        return await host.execute(host.command(name).invocation(tuple(arguments), command_id))

    return execute


def through_client(client: Client) -> Execute:
    """Commands run through a gateway."""

    async def execute(name: str, arguments: Sequence[object], command_id: str) -> object:
        return await client.execute(name, *arguments, command_id=command_id)

    return execute
