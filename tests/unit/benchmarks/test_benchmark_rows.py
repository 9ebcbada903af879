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
from benchmarks.machine import describe_machine
from benchmarks.path import on_path, split_path
from benchmarks.report import Report, Results, figure, read_json, write_json
from benchmarks.row import Goal, Row, at_least, at_most, value_at_least, value_at_most
from fusion_cluster.graph.core.hot_path import IS_NATIVE


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
    assert goal is None or Goal.parse(text) == goal
    assert row.to_json()["goal"] == (None if goal is None else goal.bound)
    assert Row.from_json(row.to_json()) == row


def test_text_that_is_no_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="not a goal: '= 3'"):
        Goal.parse("= 3")


def test_what_was_not_measured_has_no_ratio_and_reaches_nothing() -> None:
    row = Row("hit", "case", 10.0, "ns", "not measured: no server", None, at_most(8))
    assert row.ratio is None
    assert row.met is None


def test_the_json_file_has_the_rows_and_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "out" / "rows.json"
    results = Results([Row("hit", "case", 10.0, "ns", "reference", 5.0, at_most(8))], {"python": "CPython 3.11"})
    write_json(file, results)
    assert json.loads(file.read_text()) == {
        "machine": {"python": "CPython 3.11"},
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
                "goal_text": "≤ 8×",
                "met": True,
            }
        ],
    }
    assert read_json(file) == results


def test_the_machine_is_named() -> None:
    machine = describe_machine()
    assert all(machine.values())
    assert machine["path"] == ("C" if IS_NATIVE else "pure Python")
    assert "cores" in machine["processor"]


def test_a_case_knows_its_path() -> None:
    assert on_path("a hit", "C") == "a hit (C)"
    assert split_path("a hit (C)") == ("a hit", "C")
    assert split_path("local (pure Python), a writer") == ("local, a writer", "pure Python")
    assert split_path("link call") == ("link call", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_234_567.8, "1,234,568"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.9999, "1.00"),
        (0.1234, "0.123"),
        (0.00006, "<0.001"),
        (0.0, "0.000"),
    ],
)
def test_figures_show_what_counts(value: float, text: str) -> None:
    assert figure(value) == text


def test_benchmarks_are_the_modules_that_define_run() -> None:
    names = discovery.benchmark_names()
    known = {"caching", "command", "eviction", "gateway", "graph", "hit", "link", "memory", "operation_log"}
    assert known == set(names)


def _rows() -> Iterator[Row]:
    yield Row("fake", "one", 1.0, "s")


async def _list() -> list[Row]:
    return list(_rows())


async def _stream(say: discovery.Say) -> AsyncIterator[Row]:
    say("measuring")
    for row in _rows():
        yield row


async def _quickly(quick: bool, say: discovery.Say) -> list[Row]:
    say("quickly" if quick else "thoroughly")
    return list(_rows())


@pytest.mark.parametrize(
    ("run", "expected"),
    [(_rows, []), (_list, []), (_stream, ["measuring"]), (_quickly, ["quickly"]), (lambda: list(_rows()), [])],
)
async def test_run_may_be_a_function_a_generator_and_async_and_takes_what_it_names(
    monkeypatch: pytest.MonkeyPatch, run: Any, expected: list[str]
) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(run=run))
    said: list[str] = []
    assert [row.case async for row in discovery.rows_of("fake", said.append, quick=True)] == ["one"]
    assert said == expected


async def test_benchmarks_are_thorough_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(run=_quickly))
    said: list[str] = []
    assert [row.case async for row in discovery.rows_of("fake", said.append)] == ["one"]
    assert said == ["thoroughly"]


def test_rows_are_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("hit", "case", 12345.0, "calls/s", "reference", 5.0, at_least(8))
    with Report(Console(file=io.StringIO())) as report:
        report.say("quietly")
        report.add(row)
        report.end_benchmark([row])
    assert capsys.readouterr().out == "hit | case | 12,345 calls/s | reference | 5.00 calls/s | 2,469× | ≥ 8× met\n"


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
