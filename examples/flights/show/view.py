"""The live view: a snapshot as one screen of 100 by 30 characters, or more."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.flights.clock import show_minute
from examples.flights.show.board import LATE_MIN, board_table, lines_in_sight
from examples.flights.show.snapshot import Snapshot, Traffic, example_command
from examples.flights.values import Totals
from fusion_shards.configuration import MemberStatus

BOARD_LINES = 13
CARRIER_LINES = 8
HEAD_LINES, MEMBER_LINES, FOOT_LINES = 3, 6, 5


def screen(snapshot: Snapshot) -> Layout:
    """The whole screen."""
    layout = Layout()
    layout.split_column(
        Layout(_head(snapshot), name="head", size=HEAD_LINES),
        Layout(name="middle"),
        Layout(name="members", size=MEMBER_LINES),
        Layout(_foot(snapshot), name="foot", size=FOOT_LINES),
    )
    layout["middle"].split_row(
        Layout(_departures(snapshot), name="board", ratio=47),
        Layout(_delays(snapshot), name="delays", ratio=53),
    )
    layout["members"].split_row(
        Layout(_members(snapshot), name="table", ratio=13), Layout(_traffic(snapshot.traffic), name="traffic", ratio=8)
    )
    return layout


def _head(snapshot: Snapshot) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2))
    for width, ratio in ((None, None), (None, None), (None, 1), (None, None)):
        line.add_column(width=width, ratio=ratio, no_wrap=True)
    retries = f" · {snapshot.retries} tried again" if snapshot.retries else ""
    line.add_row(
        Text(f"{snapshot.day:%A} {snapshot.day.day} {snapshot.day:%B %Y}", style="bold"),
        Text(f"{show_minute(snapshot.minute)} in New York", style="bold cyan"),
        ProgressBar(total=max(snapshot.total, 1), completed=snapshot.confirmed),
        Text(f"{snapshot.confirmed:,} of {snapshot.total:,} commands{retries}"),
    )
    return Panel(
        line, title="[bold]fusion-cluster[/] · real flights, replayed", title_align="left", border_style="cyan"
    )


def _departures(snapshot: Snapshot) -> RenderableType:
    lines = lines_in_sight(snapshot.board, snapshot.minute, BOARD_LINES)
    return Panel(
        board_table(lines, snapshot.minute), title=f"departures [bold]{snapshot.airport}[/]", title_align="left"
    )


def _delays(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for column in ("departed", "arrived", "off", "delay"):
        table.add_column(column, justify="right", no_wrap=True)
    for airport, totals in sorted(snapshot.by_origin.items()):
        table.add_row(Text(airport, style="bold"), *_sums(totals))
    table.add_row(Text("network", style="bold cyan"), *_sums(snapshot.network))
    table.add_section()
    for carrier, totals in busiest(snapshot.by_carrier, CARRIER_LINES):
        name = snapshot.carrier_names.get(carrier, "")
        table.add_row(Text.assemble((carrier, "bold"), " ", (name, "dim")), *_sums(totals))
    return Panel(table, title="delays by airport and carrier", title_align="left")


def _sums(totals: Totals) -> tuple[Text, ...]:
    mean = totals.mean_departure_delay_min
    style = "dim" if mean is None else "yellow" if mean >= LATE_MIN else "green"
    return (
        Text(f"{totals.departed}/{totals.flights}"),
        Text(str(totals.arrived)),
        Text(str(totals.cancelled + totals.diverted), style="red" if totals.cancelled + totals.diverted else "dim"),
        Text("-" if mean is None else f"{round(mean)} min", style=style),
    )


def _members(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 0, 0, 1), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for column in ("slots", "nodes", "hits", "computed", "outdated", "epoch"):
        table.add_column(column, justify="right", no_wrap=True)
    for member in snapshot.members:
        table.add_row(*member_cells(member))
    return Panel(table, title="shards and gateways", title_align="left")


def member_cells(member: MemberStatus) -> tuple[RenderableType, ...]:
    """A member's row: its name, slots, nodes, hits, computations, invalidations, epoch."""
    name = Text(f"{member.role} {member.member_id}", style="bold" if member.is_up else "bold red")
    if not member.is_up:
        return (name, Text("down", style="bold red"))
    slots = f"{member.slots:,}" if member.role == "shard" else ""
    counts = (member.nodes, member.hits, member.computations, member.invalidations)
    return (name, slots, *(short(count) for count in counts), str(member.epoch))


def _traffic(traffic: Traffic) -> RenderableType:
    table = Table.grid(expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("reads", f"{traffic.reads_per_s:,.0f}/s, {traffic.hit_rate:.0%} hits")
    table.add_row("by gateway", f"{traffic.miss_p50_ms:.1f} ms, p99 {traffic.miss_p99_ms:.1f}")
    table.add_row("commands", f"{traffic.commands_per_s:,.0f}/s, {traffic.command_p50_ms:.1f} ms")
    table.add_row("invalidations", f"{traffic.invalidations_per_s:,.0f}/s")
    return Panel(table, title="calls", title_align="left")


def _foot(snapshot: Snapshot) -> RenderableType:
    year = snapshot.year
    in_all = (
        f"{year.flights:,} flights: {year.departed:,} departed, {year.arrived:,} arrived, {year.cancelled:,} cancelled"
    )
    outside = "a second process reads at half time" if snapshot.outside is None else snapshot.outside.answer
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_row("try", Text(example_command(snapshot), style="bold green"))
    table.add_row("outside", Text(outside, style="magenta"))
    table.add_row(str(snapshot.day.year), in_all)
    return Panel(table, title=f"gateway [bold]{snapshot.address}[/]", title_align="left", border_style="green")


def short(count: int) -> str:
    """A count in at most six characters: "98,765", "1,234k", "123M"."""
    if count < 100_000:
        return f"{count:,}"
    return f"{count // 1_000:,}k" if count < 10_000_000 else f"{count // 1_000_000:,}M"


def busiest(totals: Mapping[str, Totals], count: int) -> list[tuple[str, Totals]]:
    """The entries with the most flights, so many of them."""
    return sorted(totals.items(), key=lambda entry: (-entry[1].flights, entry[0]))[:count]
