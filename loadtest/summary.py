"""Totals of a run: from locust's JSON statistics to rows with percentiles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Row:
    """One line of the totals.

    Attributes:
        kind: how it was asked: call, execute, watch.
        name: what was asked.
        count: how many, failed ones included.
        failures: how many failed.
        per_second: rate over the whole run.
        percentiles_ms: response time in ms at each of PERCENTILES; locust rounds them to two digits, and to whole ms.
        slowest_ms: the longest.
    """

    kind: str
    name: str
    count: int
    failures: int
    per_second: float
    percentiles_ms: tuple[float, ...]
    slowest_ms: float


def percentile_ms(response_times: Mapping[float, int], percent: float) -> float:
    """The response time that `percent` of the requests did not exceed (nearest rank); 0 when there were none."""
    total = sum(response_times.values())
    rank = max(1, -(-total * percent // 100))
    seen = 0
    for time_ms in sorted(response_times):
        seen += response_times[time_ms]
        if seen >= rank:
            return time_ms
    return 0.0


def row_of(entry: Mapping[str, Any], duration_s: float) -> Row:
    """A row from one entry of locust's JSON."""
    times = {float(time_ms): int(count) for time_ms, count in entry["response_times"].items()}
    slowest_ms = float(entry["max_response_time"])
    return Row(
        kind=entry["method"] or "",
        name=entry["name"],
        count=entry["num_requests"],
        failures=entry["num_failures"],
        per_second=entry["num_requests"] / duration_s if duration_s else 0.0,
        percentiles_ms=tuple(min(percentile_ms(times, percent), slowest_ms) for percent in PERCENTILES),
        slowest_ms=slowest_ms,
    )


def summarize(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """A row for each request that was made, by kind and name, and one with all that a user waited for.

    The gaps between a watch's updates are not in the total: they are as long as nothing changes.
    """
    entries = sorted(entries, key=lambda entry: (entry["method"] or "", entry["name"]))
    if not entries:
        return []
    started_s = min(entry["start_time"] for entry in entries)
    duration_s = max(entry["last_request_timestamp"] or started_s for entry in entries) - started_s
    rows = [row_of(entry, duration_s) for entry in entries]
    waited_for = [entry for entry in entries if entry["method"] != "gap"]
    times: Counter[float] = Counter()
    for entry in waited_for:
        times.update({float(time_ms): int(count) for time_ms, count in entry["response_times"].items()})
    total = {
        "method": "all",
        "name": "but the gaps",
        "num_requests": sum(entry["num_requests"] for entry in waited_for),
        "num_failures": sum(entry["num_failures"] for entry in waited_for),
        "response_times": times,
        "max_response_time": max((entry["max_response_time"] for entry in waited_for), default=0.0),
    }
    return [*rows, row_of(total, duration_s)]


def read_statistics(path: Path) -> list[Row]:
    """The rows of the file that `locust --json-file` wrote."""
    return summarize(json.loads(path.read_text()))


def as_table(rows: Iterable[Row]) -> Table:
    """The totals as a person reads them."""
    table = Table(title="totals (ms)", title_justify="left")
    for column in ("kind", "what"):
        table.add_column(column)
    for column in ("requests", "failed", "per s", *(f"{percent:g}%" for percent in PERCENTILES), "slowest"):
        table.add_column(column, justify="right")
    for row in rows:
        failed = f"[red]{row.failures:,}" if row.failures else "0"
        numbers = (f"{time_ms:,.0f}" for time_ms in (*row.percentiles_ms, row.slowest_ms))
        style = "bold" if row.kind == "all" else None
        table.add_row(row.kind, row.name, f"{row.count:,}", failed, f"{row.per_second:,.1f}", *numbers, style=style)
    return table
