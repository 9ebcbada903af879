"""Draws the measured figures: `python -m benchmarks.plot out/benchmarks.json docs/`.

Three pictures, the same for the same results: `performance-goals.svg` shows each figure against its goal,
`performance-hits.svg` what a hit and its references cost, `performance-memory.svg` bytes and pauses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.path import PURE, split_path
from benchmarks.report import Results, figure, read_json
from benchmarks.row import Row
from benchmarks.tables import goal_cells

# Okabe and Ito's colours, which colour-blind people tell apart.
MET, MISSED, OURS, OURS_PURE, THEIRS = "#009E73", "#D55E00", "#0072B2", "#56B4E9", "#BBBBBB"
QUIET_TEXT = "#666666"
WIDTH_IN, BAR_IN, MARGIN_IN = 11.0, 0.23, 1.1
SMALLEST = 0.001
"""What a bar of less is drawn as, for a logarithmic scale has no 0."""
GAP = 0.6
"""Room between groups of bars, in bars."""
MOST_TIMES = 30.0
"""Bars of the goals end here: what is so much better, or worse, need not be drawn to scale."""


def main() -> int:
    """Draw the pictures; return the exit code."""
    if len(sys.argv) != 3:
        print("usage: python -m benchmarks.plot RESULTS.json FOLDER", file=sys.stderr)
        return 2
    draw(read_json(Path(sys.argv[1])), Path(sys.argv[2]))
    return 0


def draw(results: Results, folder: Path, suffix: str = ".svg") -> list[Path]:
    """Draw the pictures for which there are rows; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[Sequence[Row]], Figure | None]] = {
        "performance-goals": goals,
        "performance-hits": hits,
        "performance-memory": memory,
    }
    drawn = []
    with mpl.rc_context(
        {
            "svg.hashsalt": "fusion-cluster",
            "svg.fonttype": "path",
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        for name, make in pictures.items():
            picture = make(results.rows)
            if picture is None:
                continue
            file = folder / f"{name}{suffix}"
            picture.savefig(file, metadata={"Date": None} if suffix == ".svg" else None, facecolor="white")
            drawn.append(file)
    return drawn


# -- goals -----------------------------------------------------------------------------------------------------------
def goals(rows: Sequence[Row]) -> Figure | None:
    """How many times better than its goal each figure is: bars to the right of the line reach it."""
    chosen = [(row, times) for row in rows if (times := times_better(row)) is not None]
    if not chosen:
        return None
    places = spread([row.benchmark for row, _ in chosen])
    picture = Figure(figsize=(WIDTH_IN, MARGIN_IN + BAR_IN * places[-1]), layout="constrained")
    axes = picture.add_subplot()
    for place, (row, times) in zip(places, chosen, strict=True):
        axes.barh(place, times - 1, left=1, height=0.7, color=MET if row.met else MISSED)
        goal, value, _ = goal_cells(row)
        against = "" if row.goal is None or row.goal.is_absolute else f" {row.reference}"
        axes.text(1.01, place, f"{value}{against}, goal {goal}", transform=axes.get_yaxis_transform(), va="center")
    axes.set_xscale("log")
    axes.set_xlim(1 / MOST_TIMES / 1.1, MOST_TIMES * 1.1)
    axes.set_xticks([0.1, 1, 10], ["10× worse", "goal", "10× better"])
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=0.8)
    titles = [row.case if row.case.startswith(row.benchmark) else f"{row.benchmark}: {row.case}" for row, _ in chosen]
    name_bars(axes, places, titles)
    met = sum(row.met is True for row, _ in chosen)
    axes.set_title(f"Goals: {met} of {len(chosen)} met", loc="left", fontweight="bold")
    return picture


def times_better(row: Row) -> float | None:
    """Return how many times better than its goal a row is, within what is drawn; None without a goal or a figure."""
    if row.goal is None:
        return None
    value = row.value if row.goal.is_absolute else row.ratio
    if value is None:
        return None
    times = row.goal.bound / max(value, 1e-9) if row.goal.is_ceiling else value / row.goal.bound
    return min(max(times, 1 / MOST_TIMES), MOST_TIMES)


# -- what was measured, beside its references ------------------------------------------------------------------------
@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        group: the case that it belongs to.
        name: what it shows.
        value: its length.
        color: of the bar.
        goal: the value that it should not pass, if any.
    """

    group: str
    name: str
    value: float
    color: str
    goal: float | None = None


@dataclass(frozen=True)
class Panel:
    """One diagram of a picture.

    Attributes:
        title: says the unit.
        bars: from the top.
        is_logarithmic: the scale is.
    """

    title: str
    bars: Sequence[Bar]
    is_logarithmic: bool


def hits(rows: Sequence[Row]) -> Figure | None:
    """Nanoseconds of hits and of what they are compared with."""
    chosen = [row for row in rows if row.benchmark == "hit" and row.unit == "ns"]
    return panels([Panel("ns per read of a value that is there (logarithmic)", bars_of(chosen), is_logarithmic=True)])


def memory(rows: Sequence[Row]) -> Figure | None:
    """Bytes of nodes, and the collector's pauses."""
    chosen = [row for row in rows if row.benchmark == "memory"]
    bytes_each = bars_of([row for row in chosen if row.unit == "B"])
    pauses = bars_of([row for row in chosen if row.unit == "ms"])
    return panels(
        [
            Panel("bytes", bytes_each, is_logarithmic=False),
            Panel("ms that the garbage collector stops everything (logarithmic)", pauses, is_logarithmic=True),
        ]
    )


def panels(chosen: Sequence[Panel]) -> Figure | None:
    """Draw panels one below the other, those that have bars."""
    filled = [panel for panel in chosen if panel.bars]
    if not filled:
        return None
    heights_in = [MARGIN_IN + BAR_IN * spread([bar.group for bar in panel.bars])[-1] for panel in filled]
    picture = Figure(figsize=(WIDTH_IN, sum(heights_in)), layout="constrained")
    grid = picture.add_gridspec(len(filled), 1, height_ratios=heights_in)
    for place, panel in enumerate(filled):
        draw_panel(picture.add_subplot(grid[place]), panel)
    used = {bar.color for panel in filled for bar in panel.bars}
    colors = {OURS: "a computed, path in C", OURS_PURE: "a computed, pure Python", THEIRS: "what it is compared with"}
    shown: list[Patch | Line2D] = [Patch(color=color, label=label) for color, label in colors.items() if color in used]
    if any(bar.goal is not None for panel in filled for bar in panel.bars):
        shown.append(Line2D([], [], color="black", linewidth=2, label="goal: at most this"))
    picture.legend(handles=shown, loc="outside upper right", ncols=len(shown), frameon=False)
    return picture


def bars_of(rows: Sequence[Row]) -> list[Bar]:
    """The bars of rows: each case on all its paths, then its references, each once."""
    bars: list[Bar] = []
    for case in dict.fromkeys(split_path(row.case)[0] for row in rows):
        of_case = [row for row in rows if split_path(row.case)[0] == case]
        paths = dict.fromkeys(split_path(row.case)[1] for row in of_case)
        for path in paths:
            on_path = [row for row in of_case if split_path(row.case)[1] == path]
            limits = [limit for row in on_path if (limit := goal_value(row)) is not None]
            value = on_path[0].value
            if value is not None:
                name, color = f"{case} ({path})" if path else case, OURS_PURE if path == PURE else OURS
                bars.append(Bar(case, name, value, color, min(limits, default=None)))
        first_path = next(iter(paths))
        bars += [
            Bar(case, row.reference, row.reference_value, THEIRS)
            for row in of_case
            if row.reference_value is not None and split_path(row.case)[1] == first_path
        ]
    return bars


def goal_value(row: Row) -> float | None:
    """Return the goal of a row in the unit of the row."""
    if row.goal is None or not row.goal.is_ceiling:
        return None
    if row.goal.is_absolute:
        return row.goal.bound
    return None if row.reference_value is None else row.goal.bound * row.reference_value


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw bars with their values, and a mark where a goal is."""
    bars, places = panel.bars, spread([bar.group for bar in panel.bars])
    ends = [max(bar.value, bar.goal or 0, SMALLEST) for bar in bars]
    if panel.is_logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(min(max(bar.value, SMALLEST) for bar in bars) / 2, max(ends) * 6)
    else:
        axes.set_xlim(0, max(ends) * 1.3)
    for place, bar, end in zip(places, bars, ends, strict=True):
        axes.barh(place, max(bar.value, SMALLEST), height=0.75, color=bar.color)
        if bar.goal is not None:
            axes.plot([bar.goal, bar.goal], [place - 0.46, place + 0.46], color="black", linewidth=2)
        text = figure(bar.value) + ("" if bar.goal is None else f" (goal ≤ {figure(bar.goal)})")
        axes.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    name_bars(axes, places, [bar.name for bar in bars])
    for label, bar in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_color(QUIET_TEXT if bar.color == THEIRS else "black")
    axes.set_title(panel.title, loc="left", fontweight="bold")


# -- the places of bars ----------------------------------------------------------------------------------------------
def spread(groups: Sequence[str]) -> list[float]:
    """Return a place for each bar, from the top, with a gap wherever another group begins."""
    places: list[float] = []
    for number, group in enumerate(groups):
        gap = GAP if number and group != groups[number - 1] else 0.0
        places.append((places[-1] + 1 if places else 0.0) + gap)
    return places


def name_bars(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Name the bars, the first at the top."""
    axes.set_yticks(places, names)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)


if __name__ == "__main__":
    sys.exit(main())
