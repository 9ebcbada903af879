"""What a replay came to: the totals, whether SQL has the same, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.flights.show.snapshot import OutsideRead, Snapshot
from examples.flights.truth.comparison import Comparison
from examples.flights.values import Totals

SHOWN_DIFFERENCES = 5


@dataclass(frozen=True)
class Summary:
    """The end of a run.

    Attributes:
        snapshot: the last one.
        sql: the day's sums as SQL has them.
        comparison: every board and total, cached against SQL.
        misflown: flights that did not end as the data has it.
        outside: what another process read in the end, and `sql` as it must have read it.
        took_s: how long the replay took.
        reads: reads by this process in all.
        hits: those answered by its replicas.
    """

    snapshot: Snapshot
    sql: Totals
    comparison: Comparison
    misflown: int
    outside: OutsideRead
    outside_is_right: bool
    took_s: float
    reads: int
    hits: int

    @property
    def is_right(self) -> bool:
        """Whether all figures are what they should be."""
        return not self.comparison.differences and not self.misflown and self.outside_is_right and self.snapshot.is_over


def summary_view(summary: Summary) -> RenderableType:
    """The summary, for a terminal and for a file."""
    snapshot, comparison = summary.snapshot, summary.comparison
    title = f"{snapshot.day} after {snapshot.confirmed:,} commands"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    for column in ("flights", "departed", "arrived", "diverted", "cancelled", "left late", "came late"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, totals in (("gateway", snapshot.network), ("SQL", summary.sql)):
        counts = (totals.flights, totals.departed, totals.arrived, totals.diverted, totals.cancelled)
        delays = (totals.departure_delay_min, totals.arrival_delay_min)
        table.add_row(name, *(f"{count:,}" for count in counts), *(f"{delay:,} min" for delay in delays))
    differing = len(comparison.differences)
    lines = [
        f"{comparison.figures:,} boards and totals compared with SQL: {differing or 'no'} differ",
        *(f"  {difference}"[:300] for difference in comparison.differences[:SHOWN_DIFFERENCES]),
        f"{summary.misflown or 'no'} flights ended otherwise than the data has it",
        f"a second process read {'the same' if summary.outside_is_right else 'something else'}: "
        f"{summary.outside.answer}",
        f"{snapshot.confirmed / max(summary.took_s, 1e-9):,.0f} commands/s over {summary.took_s:.1f} s, "
        f"{snapshot.retries} tried again; {summary.reads:,} reads, {summary.hits / max(summary.reads, 1):.0%} hits",
    ]
    verdict = Text("all figures are right", "bold green") if summary.is_right else Text("NOT RIGHT", "bold red")
    return Group(table, *lines, verdict)
