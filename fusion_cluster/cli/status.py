"""`fusion-cluster status`: a table of the shards and gateways of an app."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusion_cluster.errors import ShardUnavailable, UsageError

if TYPE_CHECKING:
    from fusion_shards.configuration import ClusterStatus, MemberStatus

COLUMNS = ("slots", "nodes", "hits", "computed", "invalidated", "subscribed", "memory", "epoch", "address", "pid")

PLAIN_WIDTH = 140
"""Columns to fill where there is no terminal to ask."""


def console() -> Console:
    """A console as wide as the terminal, or wide enough for the table where there is none."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def status_table(status: ClusterStatus) -> Table:
    """The status as a table: one row a shard, one a gateway."""
    table = Table(title=f"{status.app_name}, slot map {status.slot_map_version}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("member", style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "address" else "right", no_wrap=True)
    for member in status.members:
        table.add_row(f"{member.role} {member.member_id}", *_cells(member), style=None if member.is_up else "red")
    return table


def require_ray() -> None:
    """Check that what runs apps is installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("this needs Ray, which is not installed: pip install 'fusion-cluster[cluster]'")


def status(
    app: Annotated[str | None, typer.Option(help="The app's name; not needed when only one runs.")] = None,
    ray_address: Annotated[str, typer.Option(help="The Ray cluster: host:port, or 'auto' for the one here.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show the shards and gateways: slots, nodes, hits, computations, invalidations, subscriptions, memory, epoch."""
    require_ray()
    from fusion_shards.launch import attach, running_apps, start_ray, stop_ray

    async def ask() -> ClusterStatus:
        names = [app] if app else running_apps()
        if len(names) != 1:
            what = "several apps run: say which with --app: " + ", ".join(names) if names else "no app runs"
            raise ShardUnavailable(f"{what} (Ray cluster {ray_address!r})")
        return await (await attach(names[0])).status()

    start_ray(address=ray_address)
    try:
        found = asyncio.run(ask())
    finally:
        stop_ray()
    if json:
        typer.echo(msgspec.json.encode(found).decode())
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
