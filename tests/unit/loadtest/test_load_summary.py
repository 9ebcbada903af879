from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.summary import as_table, percentile_ms, read_statistics, summarize


def entry(kind: str, name: str, times: dict[str, int], *, failures: int = 0) -> dict[str, Any]:
    return {
        "method": kind,
        "name": name,
        "num_requests": sum(times.values()),
        "num_failures": failures,
        "response_times": times,
        "max_response_time": max(map(float, times), default=0.0),
        "start_time": 100.0,
        "last_request_timestamp": 110.0,
    }


def test_a_percentile_is_the_time_that_so_many_did_not_exceed() -> None:
    times = {1.0: 90, 5.0: 9, 70.0: 1}
    assert [percentile_ms(times, percent) for percent in (50, 90, 91, 99, 99.9, 100)] == [1, 1, 5, 5, 70, 70]


def test_percentiles_of_nothing_are_0() -> None:
    assert percentile_ms({}, 99) == 0


def test_the_total_adds_what_users_waited_for_and_leaves_out_the_gaps() -> None:
    rows = summarize(
        [
            entry("gap", "Airports.board", {"9000": 5}),
            entry("call", "Airports.board", {"1": 8, "3": 2}, failures=1),
            entry("watch", "Airports.board", {"4": 2}),
        ]
    )
    assert [(row.kind, row.count) for row in rows] == [("call", 10), ("gap", 5), ("watch", 2), ("all", 12)]
    assert (rows[-1].failures, rows[-1].slowest_ms) == (1, 4.0)
    assert rows[-1].per_second == 1.2


def test_a_run_without_requests_has_no_rows() -> None:
    assert summarize([]) == []


def test_a_kind_that_never_answered_counts_its_failures() -> None:
    silent = {
        **entry("call", "Airports.board", {}),
        "num_requests": 3,
        "num_failures": 3,
        "last_request_timestamp": None,
    }
    (row, total) = summarize([silent])
    assert (row.failures, row.per_second, total.failures) == (3, 0.0, 3)


def test_the_table_shows_every_row(tmp_path: Path) -> None:
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps([entry("call", "Airports.board", {"1": 1234})]))
    console = Console(width=200, record=True)
    console.print(as_table(read_statistics(path)))
    text = console.export_text()
    assert "Airports.board" in text
    assert "1,234" in text
