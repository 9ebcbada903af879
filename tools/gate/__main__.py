"""`python -m tools.gate`: run the tests in parts, say how long each took, and end with one line that tells the whole.

All parts run, whatever becomes of those before. The order of the tests is shuffled by a seed that the commit has, so a
commit that has passed passes again, and each commit tries another order; `--seed` repeats or changes it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tools.gate.interpreters import ROOT, NoEnvironment, environment
from tools.gate.outcome import FILE_VARIABLE, Outcome, duration
from tools.gate.parts import PARTS, Part

MOST_WORKERS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; return the exit code."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m tools.gate", description=__doc__, allow_abbrev=False)
    parser.add_argument("tests", nargs="*", help="files, folders or tests: only these, in the first part named")
    parser.add_argument("--parts", default=",".join(names), help=f"which, with commas between: {', '.join(names)}")
    parser.add_argument("--seed", type=int, help="decides the order of the tests (default: the commit does)")
    parser.add_argument("--workers", type=int, default=workers(), help="processes that share the tests of a part")
    chosen = parser.parse_args(arguments)
    wanted = [name for name in chosen.parts.split(",") if name]
    if not wanted or (unknown := set(wanted) - set(names)):
        parser.error(
            f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(names)}" if wanted else "no parts"
        )
    parts = [part for part in PARTS if part.name in wanted]
    if chosen.tests:
        parts = [replace(parts[0], tests=tuple(chosen.tests))]
    seed = commit_seed() if chosen.seed is None else chosen.seed
    return Gate(parts, seed=seed, workers=chosen.workers).run()


def workers() -> int:
    """Two, on a machine of two cores; more do not help much, for all tests on Ray are one after the other."""
    return max(2, min(MOST_WORKERS, os.cpu_count() or 2))


def commit_seed() -> int:
    """The seed of the commit that is checked out; 0 where there is no git."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return 0
    return int(run.stdout, 16) if run.returncode == 0 else 0


class Gate:
    """One run of the gate.

    Args:
        parts: what is run, one after the other.
        seed: of the order of the tests.
        workers: processes that share the tests of a part.
    """

    def __init__(self, parts: Sequence[Part], *, seed: int, workers: int) -> None:
        self._parts = parts
        self._seed = seed
        self._workers = workers
        self._outcomes: dict[Part, Outcome] = {}
        self._console = Console(highlight=False, soft_wrap=True)

    def run(self) -> int:
        """Run all parts; return the exit code."""
        began = time.monotonic()
        self._console.print(f"{len(self._parts)} parts, {self._workers} workers, seed {self._seed}")
        for number, part in enumerate(self._parts, 1):
            self._console.rule(f"{number}/{len(self._parts)} {part.title}", align="left", characters="─")
            outcome = self._outcomes[part] = self._run_part(part)
            self._console.print(f"[{'green' if outcome.is_good else 'red'}]{part.title}: {escape(str(outcome))}[/]")
        self._console.rule(align="left", characters="─")
        for part, outcome in self._outcomes.items():
            self._console.print(f"{part.title}: {escape(str(outcome))}")
        return self._conclude(time.monotonic() - began)

    def _run_part(self, part: Part) -> Outcome:
        began = time.monotonic()
        try:
            python = str(environment(part.version)) if part.version else sys.executable
        except NoEnvironment as reason:
            return Outcome(not_run=str(reason))
        with tempfile.TemporaryDirectory(prefix="fusion-gate-") as folder:
            file = Path(folder) / "outcome.json"
            variables = {**part.environment, FILE_VARIABLE: str(file), **path_variables(part)}
            if part.version:
                build = [python, "hatch_build.py"]
                subprocess.run(build, cwd=ROOT, env={**os.environ, **variables}, check=False)
            command = [python, *part.options, "-m", "pytest", *self._options(part), *part.tests]
            self._console.print(escape(" ".join([*(f"{k}={v}" for k, v in part.environment.items()), *command])))
            exit_code = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=False).returncode
            return Outcome.read(file, seconds=time.monotonic() - began, exit_code=exit_code)

    def _options(self, part: Part) -> list[str]:
        is_worth_sharing = self._workers > 1 and not all("::" in test for test in part.tests)
        always = ["-q", "--continue-on-collection-errors"]
        return [*always, f"--randomly-seed={self._seed}", *([f"-n{self._workers}"] if is_worth_sharing else [])]

    def _conclude(self, seconds: float) -> int:
        failures = {part: outcome for part, outcome in self._outcomes.items() if not outcome.is_good}
        for part, outcome in failures.items():
            self._console.print(f"\n[red]{part.title} failed[/]; to run this again:")
            self._console.print(escape(f"make test PARTS={part.name} SEED={self._seed}{tests_of(part, outcome)}"))
        total = sum(outcome.passed for outcome in self._outcomes.values())
        each = ", ".join(
            f"{part.title} {outcome.passed:,}" for part, outcome in self._outcomes.items() if not outcome.not_run
        )
        reasons = [
            f"{reason} ({count})" for outcome in self._outcomes.values() for reason, count in outcome.skipped.items()
        ]
        reasons += [outcome.not_run for outcome in self._outcomes.values() if outcome.not_run]
        skipped = f"; skipped: {'; '.join(reasons)}" if reasons else ""
        if failures:
            failed = sum(len(outcome.failed) for outcome in failures.values())
            parts = ", ".join(part.title for part in failures)
            line = f"[red]failed: {failed:,} of {total + failed:,} tests in {duration(seconds)} ({parts})[/]"
            self._console.print(line)
            return 1
        self._console.print(f"[green]passed: {total:,} tests in {duration(seconds)}[/] ({escape(each + skipped)})")
        return 0


def path_variables(part: Part) -> Mapping[str, str]:
    """An environment of another version has nothing of ours installed."""
    if not part.version:
        return {}
    return {"PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in (".", "router", "shards"))}


def tests_of(part: Part, outcome: Outcome) -> str:
    """What of a part to run again: the tests that failed, if they are few."""
    return f" TESTS='{' '.join(outcome.failed)}'" if 0 < len(outcome.failed) <= 10 else ""


if __name__ == "__main__":
    sys.exit(main())
