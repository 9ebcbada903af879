"""Shows rows as they come: a table on a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.table import Table

from benchmarks.row import Row


class Report:
    """Shows the rows of a run.

    On a terminal it shows what is being measured while it is, and one table per benchmark at its end. Elsewhere it
    prints a line per row, when it has it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._status: Status | None = Status("", console=self.console) if self.console.is_terminal else None

    def __enter__(self) -> Report:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """Show what is being measured now."""
        if self._status is not None:
            self._status.update(text)

    def add(self, row: Row) -> None:
        """Show a row, where rows are shown one by one."""
        if self._status is None:
            print(" | ".join(_cells(row)), flush=True)

    def end_benchmark(self, rows: Sequence[Row]) -> None:
        """Show the table of a benchmark that has ended, where tables are shown."""
        if self._status is None or not rows:
            return
        table = Table(title=rows[0].benchmark, title_justify="left", title_style="bold")
        table.add_column("case")
        table.add_column("measured", justify="right")
        table.add_column("reference")
        table.add_column("measured", justify="right")
        table.add_column("ratio", justify="right")
        table.add_column("goal", justify="right")
        for row in rows:
            _, *cells = _cells(row)
            style = {True: "green", False: "red", None: ""}[row.met]
            table.add_row(*cells, style=style)
        self.console.print(table)

    def fail(self, name: str, error: Exception) -> None:
        """Show that a benchmark could not be carried out."""
        self.console.print(f"{name}: failed, {type(error).__name__}: {error}", markup=False, highlight=False)


@dataclass(frozen=True)
class Results:
    """The rows of a run, and what they were measured with.

    Attributes:
        rows: in the order in which they came.
        machine: `describe_machine()` of that run.
    """

    rows: Sequence[Row]
    machine: Mapping[str, str]


def write_json(path: Path, results: Results) -> None:
    """Write results to a file; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": results.machine, "rows": [row.to_json() for row in results.rows]}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Results:
    """Read what `write_json` wrote."""
    content = json.loads(path.read_text("utf-8"))
    return Results([Row.from_json(row) for row in content["rows"]], content["machine"])


def measured(value: float | None, unit: str) -> str:
    """Return a value for readers: "12,345 ns", "-" where there is none."""
    if value is None:
        return "-"
    return f"{figure(value)} {unit}"


def ratio(row: Row) -> str:
    """Return the ratio of a row for readers: "0.8×", "" where there is none."""
    return "" if row.ratio is None else f"{figure(row.ratio)}×"


def figure(value: float) -> str:
    """Return a number with three digits that count, more only before the point."""
    if 0 < value < 0.0005:
        return "<0.001"
    size = abs(round(value, 3))
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _cells(row: Row) -> list[str]:
    met = {True: " met", False: " missed", None: ""}[row.met]
    return [
        row.benchmark,
        row.case,
        measured(row.value, row.unit),
        row.reference,
        measured(row.reference_value, row.unit),
        ratio(row),
        "" if row.goal is None else f"{row.goal}{met}",
    ]
