"""The page with the measured figures: tables between two markers, each goal beside its figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.report import Results, write_json
from benchmarks.row import Row, at_least, at_most, value_at_most

MACHINE = {"processor": "a fast one, 2 cores", "path": "C"}
RESULTS = Results(
    [
        Row("hit", "one int (C)", 40.0, "ns", "lru_cache", 80.0, at_most(0.8)),
        Row("hit", "one int (C)", 40.0, "ns", "redis: not measured", None),
        Row("caching", "local", 1_000_000.0, "calls/s", "uncached", 1_000.0, at_least(8_000)),
        Row("memory", "a node", 300.0, "B", "lru_cache", 150.0, value_at_most(350)),
        Row("memory", "a pause", None, "ms", "not measured", None, value_at_most(20)),
    ],
    MACHINE,
)
PAGE = f"# Title\nbefore\n{tables.BEGIN}\nold figures\n{tables.END}\nafter\n"


def test_each_goal_stands_beside_its_figure() -> None:
    page = tables.with_tables(PAGE, RESULTS)
    assert "| hit | one int (C) | lru_cache | ≤ 0.8× | 0.500× | yes |" in page
    assert "| caching | local | uncached | ≥ 8,000× | 1,000× | **no** |" in page
    assert "| memory | a node | lru_cache | ≤ 350 B | 300 B | yes |" in page
    assert "| memory | a pause | not measured | ≤ 20 ms | - |  |" in page
    assert "2 of 4 are met." in page


def test_all_rows_stand_below_by_benchmark() -> None:
    page = tables.with_tables(PAGE, RESULTS)
    assert [line for line in page.splitlines() if line.startswith("### ")] == [
        "### Goals",
        "### All rows of `hit`",
        "### All rows of `caching`",
        "### All rows of `memory`",
    ]
    assert "| one int (C) | 40.0 ns | redis: not measured | - |  |" in page
    assert "| local | 1,000,000 calls/s | uncached | 1,000 calls/s | 1,000× |" in page


def test_the_machine_is_named() -> None:
    assert "Measured with: processor a fast one, 2 cores; path C." in tables.with_tables(PAGE, RESULTS)


def test_what_was_written_by_hand_stays_and_old_figures_go() -> None:
    page = tables.with_tables(PAGE, RESULTS)
    assert page.startswith(f"# Title\nbefore\n{tables.BEGIN}\n")
    assert page.endswith(f"\n{tables.END}\nafter\n")
    assert "old figures" not in page
    assert tables.with_tables(page, RESULTS) == page


@pytest.mark.parametrize("page", ["", tables.BEGIN, f"{tables.END}{tables.BEGIN}"])
def test_a_page_without_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="the page has no"):
        tables.with_tables(page, RESULTS)


def test_the_program_rewrites_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    write_json(results, RESULTS)
    page.write_text(PAGE)
    monkeypatch.setattr("sys.argv", ["tables", str(results), str(page)])
    assert tables.main() == 0
    assert page.read_text() == tables.with_tables(PAGE, RESULTS)


def test_the_program_says_how_it_is_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["tables"])
    assert tables.main() == 2
    assert "RESULTS.json PAGE.md" in capsys.readouterr().err
