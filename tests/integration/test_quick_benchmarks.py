"""All benchmarks with small sizes, as `make bench` runs them with large ones: they work, whatever their figures are."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from benchmarks import plot, tables
from benchmarks.discovery import benchmark_names
from benchmarks.path import on_path
from benchmarks.report import Results, read_json

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_all_benchmarks_run_and_what_they_measure_is_written_and_drawn(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    results = read_json(file)
    assert {row.benchmark for row in results.rows} == set(benchmark_names())
    assert_measured(results)
    assert_caching_gains(results)
    page = tables.with_tables((ROOT / "docs" / "performance.md").read_text(), results)
    assert all(row.case in page for row in results.rows)
    assert len(plot.draw(results, tmp_path)) == 3


def assert_measured(results: Results) -> None:
    """Nothing is missing but what needs a program that may not be installed, and references that are words."""
    for row in results.rows:
        is_in_words = row.unit == "points" or row.reference.startswith("redis-py GET: not measured")
        assert row.value is not None, row
        assert is_in_words or row.reference_value is not None, row
        assert row.goal is None or row.met is not None, row


def assert_caching_gains(results: Results) -> None:
    """That benchmark fails where something is stale; here it gains everywhere."""
    rows = [row for row in results.rows if row.benchmark == "caching"]
    assert [row.case for row in rows] == [
        f"{on_path(setting)}, {case}"
        for setting in ("local, SQLite", "local, PostgreSQL", "through a gateway")
        for case in ("no writer", "a writer", "the writer's commands meanwhile")
    ]
    assert all(row.ratio is not None and row.ratio > 2 for row in rows if row.unit == "calls/s")
    assert all(row.value for row in rows)
