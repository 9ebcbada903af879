"""Writes the measured figures into a page: `python -m benchmarks.tables out/benchmarks.json docs/performance.md`.

Everything between the two markers of the page is replaced; the rest of it is written by hand.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.report import Results, figure, measured, ratio, read_json
from benchmarks.row import Row

BEGIN = "<!-- measured: begin (made by make bench) -->"
END = "<!-- measured: end -->"
MET = {True: "yes", False: "**no**", None: ""}


def main() -> int:
    """Rewrite the page; return the exit code."""
    if len(sys.argv) != 3:
        print("usage: python -m benchmarks.tables RESULTS.json PAGE.md", file=sys.stderr)
        return 2
    page = Path(sys.argv[2])
    page.write_text(with_tables(page.read_text("utf-8"), read_json(Path(sys.argv[1]))), "utf-8")
    return 0


def with_tables(page: str, results: Results) -> str:
    """Return the page with these results between its markers.

    Raises:
        ValueError: it does not have the markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{tables(results)}\n{END}{after}"


def tables(results: Results) -> str:
    """Return all tables: the goals first, then all rows of each benchmark."""
    machine = "; ".join(f"{name} {value}" for name, value in results.machine.items())
    goals = [row for row in results.rows if row.goal is not None]
    met = sum(row.met is True for row in goals)
    sections = [
        f"Measured with: {machine}.",
        f"### Goals\n\n{met} of {len(goals)} are met.\n\n{goal_table(goals)}",
    ]
    for benchmark, rows in itertools.groupby(results.rows, key=lambda row: row.benchmark):
        sections.append(f"### All rows of `{benchmark}`\n\n{row_table(rows)}")
    return "\n\n".join(sections)


def goal_table(rows: Iterable[Row]) -> str:
    """Return the table of rows that have goals, each goal beside the figure that it is for."""
    head = ("benchmark", "case", "against", "goal", "measured", "met")
    return _table(head, "lllrrl", ([row.benchmark, row.case, row.reference, *goal_cells(row)] for row in rows))


def goal_cells(row: Row) -> list[str]:
    """Return the goal of a row, the figure that it is for, and whether it is met."""
    assert row.goal is not None
    if row.goal.is_absolute:
        sign, bound = str(row.goal).split(" ")
        return [f"{sign} {figure_of(bound)} {row.unit}", measured(row.value, row.unit), MET[row.met]]
    sign, bound = str(row.goal).removesuffix("×").split(" ")
    return [f"{sign} {figure_of(bound)}×", ratio(row) or "-", MET[row.met]]


def figure_of(bound: str) -> str:
    """Return a goal's bound for readers: "8000" as "8,000"."""
    return bound if float(bound) < 1000 else figure(float(bound))


def row_table(rows: Iterable[Row]) -> str:
    """Return the table of all that was measured by a benchmark."""
    head = ("case", "measured", "reference", "measured", "ratio")
    cells = (
        [
            row.case,
            measured(row.value, row.unit),
            row.reference,
            measured(row.reference_value, row.unit),
            ratio(row),
        ]
        for row in rows
    )
    return _table(head, "lrlrr", cells)


def _table(head: Sequence[str], alignment: str, rows: Iterable[Sequence[str]]) -> str:
    rules = ["---:" if side == "r" else "---" for side in alignment]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rules, *rows))


if __name__ == "__main__":
    sys.exit(main())
