from __future__ import annotations

import pytest

from benchmarks import caching


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "ROUNDS", 1)
    monkeypatch.setattr(caching, "ROUND_S", 0.1)


@pytest.mark.slow
async def test_the_caching_benchmark_finds_nothing_stale_and_a_gain_everywhere() -> None:
    rows = [row async for row in caching.run(lambda text: None)]
    assert [row.case for row in rows] == [
        "local, no writer",
        "local, a writer",
        "local, the writer's commands meanwhile",
        "through a gateway, no writer",
        "through a gateway, a writer",
        "through a gateway, the writer's commands meanwhile",
    ]
    assert all(row.ratio is not None and row.ratio > 2 for row in rows if row.unit == "calls/s")
