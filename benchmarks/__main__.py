"""Runs benchmarks: `python -m benchmarks [name ...] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback
from pathlib import Path

from benchmarks.discovery import benchmark_names, rows_of
from benchmarks.machine import describe_machine
from benchmarks.report import Report, Results, write_json
from benchmarks.row import Row


def main() -> int:
    """Run what the command line names; return the exit code: 1 if a benchmark could not be carried out."""
    names = benchmark_names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, each case against a reference.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which ones: {', '.join(names)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that all of it works, measures little")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(names))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names)}")
    rows: list[Row] = []
    failed = False
    machine = describe_machine()
    with Report() as report:
        for name in chosen.names or names:
            failed |= not asyncio.run(_run(name, report, rows, quick=chosen.quick))
            if chosen.json is not None:
                write_json(chosen.json, Results(rows, machine))
    return 1 if failed else 0


async def _run(name: str, report: Report, rows: list[Row], *, quick: bool) -> bool:
    """Run one benchmark, append its rows, tell whether it could be carried out."""
    begin = len(rows)
    report.say(name)
    try:
        async for row in rows_of(name, lambda text: report.say(f"{name}: {text}"), quick=quick):
            rows.append(row)
            report.add(row)
    except Exception as error:
        report.fail(name, error)
        traceback.print_exc()
        return False
    finally:
        report.end_benchmark(rows[begin:])
    return True


if __name__ == "__main__":
    sys.exit(main())
