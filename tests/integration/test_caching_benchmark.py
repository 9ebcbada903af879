from __future__ import annotations

import pytest

from benchmarks import caching
from benchmarks.path import on_path


@pytest.mark.slow
async def test_the_caching_benchmark_finds_nothing_stale_and_a_gain_everywhere() -> None:
    rows = [row async for row in caching.run(lambda text: None, quick=True)]
    assert [row.case for row in rows] == [
        f"{on_path(setting)}, {case}"
        for setting in ("local, SQLite", "local, PostgreSQL", "through a gateway")
        for case in ("no writer", "a writer", "the writer's commands meanwhile")
    ]
    assert all(row.ratio is not None and row.ratio > 2 for row in rows if row.unit == "calls/s")
    assert all(row.value for row in rows)
