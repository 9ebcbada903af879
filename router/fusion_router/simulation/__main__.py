"""The command behind `make simulate`: runs seeds of the standard scenario, and shows what they have found.

>>> python -m fusion_router.simulation --seeds 1000 --jobs 2
>>> python -m fusion_router.simulation --seed 7
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fusion_cluster.runtime import SYSTEM
from fusion_router.simulation.plan import plan_of
from fusion_router.simulation.run import Outcome, run_plan
from fusion_router.simulation.shrinking import shrink
from fusion_router.simulation.tally import Tally, run_seeds

CHUNK: Final = 20
"""How many seeds a process is given at a time."""

MOST_SHOWN: Final = 3
"""How many failing seeds are shrunk and shown; all are listed."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0: no violation was found, 1: some were."""
    parser = argparse.ArgumentParser(prog="simulate", description="Run whole clusters in simulation, and check them.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="run this seed alone, and show its plan")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if options.seed is not None:
        return _show(console, run_plan(plan_of(options.seed)))
    began_s = SYSTEM.clock.precise()
    tally = _run_all(console, options.first, options.seeds, options.jobs)
    took_s = SYSTEM.clock.precise() - began_s
    console.print(
        f"{tally.seeds} seeds, {tally.reads} reads checked, {tally.changes} commands confirmed, {tally.failures} calls "
        f"failed as they may, {tally.steps} steps: {len(tally.failing)} seeds with violations; "
        f"{tally.seeds / max(took_s, 1e-9):.0f} seeds/s"
    )
    if tally.failing:
        tally.failing.sort()
        console.print(f"failing seeds: {', '.join(map(str, tally.failing))}")
        for seed in tally.failing[:MOST_SHOWN]:
            _show(console, run_plan(plan_of(seed)))
    return 1 if tally.failing else 0


def _run_all(console: Console, first: int, seeds: int, jobs: int) -> Tally:
    tally = Tally()
    chunks = [(begin, min(CHUNK, first + seeds - begin)) for begin in range(first, first + seeds, CHUNK)]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("seeds", total=seeds)
        for done in _tallies(chunks, jobs):
            tally.merge(done)
            progress.update(bar, advance=done.seeds, description=f"seeds, {len(tally.failing)} with violations")
    return tally


def _tallies(chunks: list[tuple[int, int]], jobs: int) -> Iterator[Tally]:
    if jobs <= 1:
        yield from (run_seeds(*chunk) for chunk in chunks)
        return
    # Not forked: a copy of a process that has used gRPC is of no use.
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawning) as pool, _cancelled_at_once(pool):
        for future in as_completed([pool.submit(run_seeds, *chunk) for chunk in chunks]):
            yield future.result()


@contextmanager
def _cancelled_at_once(pool: ProcessPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _show(console: Console, outcome: Outcome) -> int:
    """Show a run; with violations, its smallest form too."""
    console.print(f"\n{outcome.plan}\n  trace {outcome.trace_hash}, {outcome.steps} steps")
    if not outcome.violations:
        console.print("  no violation")
        return 0
    for violation in outcome.violations:
        console.print(f"  {violation}")
    smallest = shrink(outcome)
    console.print(f"\nthe same with less:\n{smallest.plan}")
    for violation in smallest.violations:
        console.print(f"  {violation}")
    console.print(f"\nrepeat it: make simulate SEED={outcome.plan.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
