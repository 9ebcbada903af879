"""The departures board of an airport, with the lines of the hour in sight."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from examples.flights.clock import read_minute
from examples.flights.values import Departure

LATE_MIN = 15
"""From this delay on a flight counts as late, as the airlines have it."""

LOOK_BACK_MIN = 20
"""Flights that should have left so long ago are still in sight."""


def lines_in_sight(board: Sequence[Departure], minute: int, count: int) -> Sequence[Departure]:
    """So many lines of the board from a little before that minute on; earlier ones fill up the rest.

    Args:
        board: in the order of the schedule.
        minute: the time of day, in minutes since midnight.
        count: how many lines there is room for.
    """
    first = sum(read_minute(line.scheduled) < minute - LOOK_BACK_MIN for line in board)
    first = max(0, min(first, len(board) - count))
    return board[first : first + count]


def board_table(board: Sequence[Departure], minute: int) -> Table:
    """The lines as a table."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("time", width=5)
    table.add_column("to", width=3)
    table.add_column("flight", width=7)
    table.add_column("left", width=7)
    table.add_column("", ratio=1, no_wrap=True)
    for line in board:
        remark, style = remark_of(line, minute)
        table.add_row(
            line.scheduled,
            Text(line.destination, style="bold"),
            line.flight,
            line.actual or "",
            Text(remark, style=style),
        )
    return table


def remark_of(line: Departure, minute: int) -> tuple[str, str]:
    """What the board says of a flight at that minute, and in which style."""
    if line.status == "cancelled":
        return "cancelled", "bold red"
    if line.delay_min is not None:
        if line.delay_min >= LATE_MIN:
            return f"departed {delay_text(line.delay_min)}", "yellow"
        return "departed", "green"
    overdue_min = minute - read_minute(line.scheduled)
    if overdue_min >= LATE_MIN:
        return f"delayed {delay_text(overdue_min)}", "bold yellow"
    return ("boarding", "cyan") if overdue_min > -LATE_MIN else ("on time", "dim")


def delay_text(delay_min: int) -> str:
    """A delay as people say it: "+45 min", "+2:05 h"."""
    if abs(delay_min) < 60:
        return f"{delay_min:+} min"
    sign = "-" if delay_min < 0 else "+"
    return f"{sign}{abs(delay_min) // 60}:{abs(delay_min) % 60:02} h"
