"""The pictures of the measured figures: the same for the same results, labels that do not overlap."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import plot
from benchmarks.report import Results, write_json
from benchmarks.row import Row, at_least, at_most, value_at_most

ROWS = [
    Row("hit", "hit, one int (C)", 40.0, "ns", "lru_cache hit, function", 70.0, at_most(0.8)),
    Row("hit", "hit, one int (C)", 40.0, "ns", "lru_cache hit, method", 100.0, at_most(0.8)),
    Row("hit", "hit, one int (pure Python)", 400.0, "ns", "lru_cache hit, function", 70.0),
    Row("hit", "gather of 100, per hit (C)", 50.0, "ns", "asyncio.gather of the same", 7_000.0),
    Row("hit", "gather of 100, per hit (C)", 50.0, "ns", "redis: not measured", None),
    Row("caching", "local, SQLite (C), no writer", 4e6, "calls/s", "the same body without memo", 1e3, at_least(8_000)),
    Row("memory", "a node with two edges, of 1,000,000 (C)", 300.0, "B", "an lru_cache", 140.0, value_at_most(350)),
    Row("memory", "longest automatic collection (C)", 0.0, "ms", "of Python objects", 120.0, value_at_most(20)),
    Row("eviction", "Zipf: behind the best (C)", -0.3, "points", "LFU has 60%", None, value_at_most(3)),
]
RESULTS = Results(ROWS, {})


def test_there_is_a_picture_of_goals_of_hits_and_of_memory(tmp_path: Path) -> None:
    drawn = plot.draw(RESULTS, tmp_path / "docs")
    assert [path.name for path in drawn] == [
        "performance-goals.svg",
        "performance-hits.svg",
        "performance-memory.svg",
    ]
    assert all(path.read_text().startswith("<?xml") for path in drawn)


def test_equal_results_make_equal_pictures(tmp_path: Path) -> None:
    first, second = plot.draw(RESULTS, tmp_path / "1"), plot.draw(RESULTS, tmp_path / "2")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_without_rows_there_is_no_picture(tmp_path: Path) -> None:
    assert plot.draw(Results([], {}), tmp_path) == []
    assert plot.draw(Results([Row("link", "call", 1.0, "ms")], {}), tmp_path) == []


@pytest.mark.parametrize("make", [plot.goals, plot.hits, plot.memory])
def test_no_text_of_a_picture_overlaps_another_or_is_cut_off(make: object) -> None:
    assert callable(make)
    picture = make(ROWS * 4 if make is plot.goals else ROWS)
    assert isinstance(picture, Figure)
    canvas = FigureCanvasAgg(picture)
    picture.draw_without_rendering()
    texts = [text for axes in picture.axes for text in [*axes.texts, *axes.get_yticklabels(), axes.title]]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    assert len(boxes) > 4
    touching = [(one, other) for (one, its), (other, of) in itertools.combinations(boxes, 2) if its.overlaps(of)]
    assert not touching
    width, height = canvas.get_width_height()
    assert not [text for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]


def test_a_case_stands_with_all_its_paths_and_each_reference_once() -> None:
    bars = plot.bars_of([row for row in ROWS if row.benchmark == "hit"])
    assert [(bar.name, bar.value) for bar in bars] == [
        ("hit, one int (C)", 40.0),
        ("hit, one int (pure Python)", 400.0),
        ("lru_cache hit, function", 70.0),
        ("lru_cache hit, method", 100.0),
        ("gather of 100, per hit (C)", 50.0),
        ("asyncio.gather of the same", 7_000.0),
    ]


def test_of_two_goals_of_a_case_the_stricter_is_marked() -> None:
    assert plot.bars_of(ROWS)[0].goal == pytest.approx(56.0)


@pytest.mark.parametrize(
    ("row", "times"),
    [
        (Row("b", "half of what it may cost", 4.0, "ns", "r", 10.0, at_most(0.8)), 2.0),
        (Row("b", "twice what it should reach", 40.0, "/s", "r", 10.0, at_least(2)), 2.0),
        (Row("b", "twice what it may cost", 40.0, "ns", goal=value_at_most(20)), 0.5),
        (Row("b", "nothing", 0.0, "ms", goal=value_at_most(20)), plot.MOST_TIMES),
        (Row("b", "less than nothing", -1.0, "points", goal=value_at_most(3)), plot.MOST_TIMES),
        (Row("b", "far too much", 1e9, "ms", goal=value_at_most(20)), 1 / plot.MOST_TIMES),
        (Row("b", "not measured", None, "ms", goal=value_at_most(20)), None),
        (Row("b", "no goal", 1.0, "ms"), None),
    ],
)
def test_a_bar_shows_how_many_times_better_than_its_goal_a_figure_is(row: Row, times: float | None) -> None:
    assert plot.times_better(row) == times


def test_the_program_draws_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results.json"
    write_json(results, RESULTS)
    monkeypatch.setattr("sys.argv", ["plot", str(results), str(tmp_path / "docs")])
    assert plot.main() == 0
    assert len(list((tmp_path / "docs").glob("*.svg"))) == 3


def test_the_program_says_how_it_is_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["plot"])
    assert plot.main() == 2
    assert "RESULTS.json FOLDER" in capsys.readouterr().err
