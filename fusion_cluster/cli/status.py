"""`fusion-cluster status`: shows a table of the shards and gateways of an app."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fusion_cluster.cli.deadline import within
from fusion_cluster.cli.options import AppName, Json, RayAddress, Timeout
from fusion_cluster.cli.output import console, say
from fusion_cluster.errors import UsageError

if TYPE_CHECKING:
    from fusion_shards.configuration import ClusterStatus, MemberStatus

COLUMNS = ("slots", "nodes", "hits", "computed", "invalidated", "subscribed", "memory", "epoch", "address", "pid")

DEFAULT_TIMEOUT_S = 20.0


def status_table(status: ClusterStatus) -> Table:
    """Return the status as a table with one row for each shard and each gateway."""
    table = Table(title=f"{status.app_name}, slot map {status.slot_map_version}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("member", style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "address" else "right", no_wrap=True)
    for member in status.members:
        table.add_row(f"{member.role} {member.member_id}", *_cells(member), style=None if member.is_up else "red")
    return table


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("this needs Ray, which is not installed: pip install 'fusion-cluster[cluster]'")


def status(
    app: AppName = None,
    ray_address: RayAddress = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Show the shards and gateways: slots, nodes, hits, computations, invalidations, subscriptions, memory, epoch."""
    require_ray()
    from fusion_shards.joining import join_ray, stop_ray
    from fusion_shards.launch import attach
    from fusion_shards.ray_clusters import find_app

    async def ask(name: str) -> ClusterStatus:
        return await (await attach(name)).status()

    def find_and_ask() -> ClusterStatus:
        address, name = find_app(app, ray_address)
        join_ray(address)
        try:
            return asyncio.run(ask(name))
        finally:
            stop_ray()

    found = within(timeout, "asking the Ray cluster", find_and_ask)
    if as_json:
        say(msgspec.json.encode(found).decode())
    else:
        console().print(status_table(found))


def _cells(member: MemberStatus) -> list[str | Text]:
    if not member.is_up:
        return [Text("down", style="bold red"), *[""] * (len(COLUMNS) - 1)]
    return [
        f"{member.slots:,}" if member.role == "shard" else "",
        f"{member.nodes:,}",
        f"{member.hits:,}",
        f"{member.computations:,}",
        f"{member.invalidations:,}",
        f"{member.subscriptions:,}",
        f"{member.memory_bytes / 2**20:,.0f} MiB",
        str(member.epoch),
        member.address,
        str(member.pid),
    ]
