"""One run of the gate: the first part before the reader's eyes, the others beside it, and one line about the whole.

The tests of the first part often wait: for Ray, for processes, for leases to run out. The other parts compute. So they
run one after another beside the first, in one process each; what they print is shown when the first is done. All parts
run, even if one fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tools.gate.interpreters import ROOT, NoEnvironment, environment
from tools.gate.outcome import FILE_VARIABLE, Outcome, duration
from tools.gate.parts import Part


class Gate:
    """One run of the gate.

    Args:
        parts: what is run; the first is shown while it runs.
        seed: of the order of the tests.
        workers: processes that share the tests of the first part.
    """

    def __init__(self, parts: Sequence[Part], *, seed: int, workers: int) -> None:
        self._parts = parts
        self._seed = seed
        self._workers = workers
        self._outcomes: dict[Part, Outcome] = {}
        self._console = Console(highlight=False, soft_wrap=True)
        self._printing = threading.Lock()
        # What the parts beside the first have printed, until that is done; None: it is done.
        self._held: list[str] | None = []

    def run(self) -> int:
        """Run all parts; return the exit code."""
        began = time.monotonic()
        first, *others = self._parts
        also = f"; beside it: {'; '.join(part.title for part in others)}" if others else ""
        self._console.print(f"{first.title}{also} ({self._workers} workers, seed {self._seed})")
        waiting = deque(others)
        with ThreadPoolExecutor(1) as beside:
            try:
                running = beside.submit(self._run_quietly, waiting)
                self._run_shown(first)
                self._run_quietly(waiting)
                running.result()
            finally:
                waiting.clear()  # after Ctrl-C nothing more begins
        self._console.rule(align="left", characters="─")
        for part in self._parts:
            self._console.print(f"{part.title}: {escape(str(self._outcomes[part]))}")
        return self._conclude(time.monotonic() - began)

    # -- parts ---------------------------------------------------------------------------------------------------------
    def _run_shown(self, part: Part) -> None:
        self._console.rule(part.title, align="left", characters="─")
        outcome = self._outcomes[part] = self._run(part, workers=self._workers, output=None)
        self._console.print(in_color(part, outcome))
        with self._printing:
            held, self._held = self._held or [], None
            for text in held:
                self._console.print(text)

    def _run_quietly(self, waiting: deque[Part]) -> None:
        """Run parts until none is left; two threads do it when the first part is done."""
        while waiting:
            try:
                part = waiting.popleft()
            except IndexError:  # the other thread was faster
                return
            with tempfile.TemporaryFile("w+") as output:
                outcome = self._outcomes[part] = self._run(part, workers=1, output=output.fileno())
                output.seek(0)
                said = "" if outcome.is_good else f"[bold]{part.title}[/]\n{escape(output.read())}\n"
            with self._printing:
                text = said + in_color(part, outcome)
                if self._held is None:
                    self._console.print(text)
                else:
                    self._held.append(text)

    def _run(self, part: Part, *, workers: int, output: int | None) -> Outcome:
        began = time.monotonic()
        try:
            python = str(environment(part.version)) if part.version else sys.executable
        except NoEnvironment as reason:
            return Outcome(not_run=str(reason))
        with tempfile.TemporaryDirectory(prefix="fusion-gate-") as folder:
            file = Path(folder) / "outcome.json"
            variables = {**os.environ, **part.environment, FILE_VARIABLE: str(file), **path_variables(part)}
            commands = [[python, *part.options, "-m", "pytest", *self._options(part, workers)]]
            if part.version:
                commands.insert(0, [python, "hatch_build.py"])
            for command in commands:
                if output is None:
                    self._console.print(escape(" ".join(command)))
                run = subprocess.run(
                    command, cwd=ROOT, env=variables, stdout=output, stderr=output and subprocess.STDOUT, check=False
                )
            return Outcome.read(file, seconds=time.monotonic() - began, exit_code=run.returncode)

    def _options(self, part: Part, workers: int) -> list[str]:
        is_worth_sharing = workers > 1 and not all("::" in test for test in part.tests)
        always = ["-q", "--continue-on-collection-errors"]
        shared = [f"-n{workers}"] if is_worth_sharing else []
        ignored = [f"--ignore={test}" for test in part.ignored]
        return [*always, f"--randomly-seed={self._seed}", *shared, *ignored, *part.tests]

    # -- the end -------------------------------------------------------------------------------------------------------
    def _conclude(self, seconds: float) -> int:
        failures = {part: outcome for part, outcome in self._outcomes.items() if not outcome.is_good}
        for part, outcome in failures.items():
            self._console.print(f"\n[red]{part.title} failed[/]; to run this again:")
            self._console.print(escape(f"make test PARTS={part.name} SEED={self._seed}{tests_of(outcome)}"))
        total = sum(outcome.passed for outcome in self._outcomes.values())
        if failures:
            failed = sum(len(outcome.failed) for outcome in failures.values())
            parts = ", ".join(part.title for part in failures)
            line = f"[red]failed: {failed:,} of {total + failed:,} tests in {duration(seconds)} ({parts})[/]"
            self._console.print(line)
            return 1
        passed = f"[green]passed: {total:,} tests in {duration(seconds)}[/]"
        self._console.print(f"{passed} ({escape(self._counts())}{escape(self._skipped())})")
        return 0

    def _counts(self) -> str:
        ran = [(part, self._outcomes[part]) for part in self._parts if not self._outcomes[part].not_run]
        return ", ".join(f"{part.title} {outcome.passed:,}" for part, outcome in ran)

    def _skipped(self) -> str:
        outcomes = [self._outcomes[part] for part in self._parts]
        reasons = [f"{reason} ({count})" for outcome in outcomes for reason, count in outcome.skipped.items()]
        reasons += [outcome.not_run for outcome in outcomes if outcome.not_run]
        return f"; skipped: {'; '.join(reasons)}" if reasons else ""


def in_color(part: Part, outcome: Outcome) -> str:
    """What came of a part, as a line for the console."""
    return f"[{'green' if outcome.is_good else 'red'}]{part.title}: {escape(str(outcome))}[/]"


def path_variables(part: Part) -> Mapping[str, str]:
    """An environment of another version has nothing of ours installed."""
    if not part.version:
        return {}
    return {"PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in (".", "router", "shards"))}


def tests_of(outcome: Outcome) -> str:
    """What of a part to run again: the tests that failed, if they are few."""
    return f" TESTS='{' '.join(outcome.failed)}'" if 0 < len(outcome.failed) <= 10 else ""
