"""The frame that benchmarks stand in: rows, goals, discovery, output."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from benchmarks import discovery
from benchmarks.report import Report, write_json
from benchmarks.row import Row, at_least, at_most, value_at_least, value_at_most


@pytest.mark.parametrize(
    ("goal", "met", "text"),
    [
        (None, None, ""),
        (at_most(8), True, "≤ 8×"),
        (at_most(1.5), False, "≤ 1.5×"),
        (at_least(2), True, "≥ 2×"),
        (at_least(20), False, "≥ 20×"),
        (value_at_most(10), True, "≤ 10"),
        (value_at_most(9), False, "≤ 9"),
        (value_at_least(11), False, "≥ 11"),
    ],
)
def test_a_goal_is_reached_by_the_ratio_or_by_the_value(goal: Any, met: bool | None, text: str) -> None:
    row = Row("hit", "case", 10.0, "ns", "reference", 5.0, goal)
    assert row.ratio == 2.0
    assert row.met is met
    assert goal is None or str(goal) == text
    assert row.to_json()["goal"] == (None if goal is None else goal.bound)


def test_what_was_not_measured_has_no_ratio_and_reaches_nothing() -> None:
    row = Row("hit", "case", 10.0, "ns", "not measured: no server", None, at_most(8))
    assert row.ratio is None
    assert row.met is None


def test_the_json_file_has_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "out" / "rows.json"
    write_json(file, [Row("hit", "case", 10.0, "ns", "reference", 5.0, at_most(8))])
    assert json.loads(file.read_text()) == {
        "rows": [
            {
                "benchmark": "hit",
                "case": "case",
                "value": 10.0,
                "unit": "ns",
                "reference": "reference",
                "reference_value": 5.0,
                "ratio": 2.0,
                "goal": 8,
                "met": True,
            }
        ]
    }


def test_benchmarks_are_the_modules_that_define_run() -> None:
    names = discovery.benchmark_names()
    assert "hit" in names
    assert not {"row", "report", "discovery", "redis_server", "__main__"} & set(names)


def _rows() -> Iterator[Row]:
    yield Row("fake", "one", 1.0, "s")


async def _list() -> list[Row]:
    return list(_rows())


async def _stream(say: discovery.Say) -> AsyncIterator[Row]:
    say("measuring")
    for row in _rows():
        yield row


@pytest.mark.parametrize("run", [_rows, _list, _stream, lambda: list(_rows())])
async def test_run_may_be_a_function_a_generator_and_async(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(run=run))
    said: list[str] = []
    assert [row.case async for row in discovery.rows_of("fake", said.append)] == ["one"]
    assert said == (["measuring"] if run is _stream else [])


def test_rows_are_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("hit", "case", 12345.0, "calls/s", "reference", 5.0, at_least(8))
    with Report(Console(file=io.StringIO())) as report:
        report.say("quietly")
        report.add(row)
        report.end_benchmark([row])
    assert capsys.readouterr().out == "hit | case | 12,345 calls/s | reference | 5.000 calls/s | 2.47e+03× | ≥ 8× met\n"


def test_rows_are_a_table_on_a_terminal() -> None:
    shown = io.StringIO()
    row = Row("hit", "case", None, "ns", "not measured", None, at_most(8))
    with Report(Console(file=shown, force_terminal=True, width=120)) as report:
        report.say("measuring")
        report.add(row)
        report.end_benchmark([row])
        report.fail("other", ValueError("[broken]"))
    assert "not measured" in shown.getvalue()
    assert "other: failed, ValueError: [broken]" in shown.getvalue()
