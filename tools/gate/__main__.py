"""`python -m tools.gate`: run the tests in parts, say how long each took, and end with one line that tells the whole.

The order of the tests is shuffled by a seed that the commit has, so a commit that has passed passes again, and each
commit tries another order; `--seed` repeats or changes it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from tools.gate.gate import Gate
from tools.gate.interpreters import ROOT
from tools.gate.parts import PARTS

MOST_WORKERS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; return the exit code."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m tools.gate", description=__doc__, allow_abbrev=False)
    parser.add_argument("tests", nargs="*", help="files, folders or tests: only these, in the first part named")
    parser.add_argument("--parts", default=",".join(names), help=f"which, with commas between: {', '.join(names)}")
    parser.add_argument("--seed", type=int, help="decides the order of the tests (default: the commit does)")
    parser.add_argument(
        "--workers", type=int, default=workers(), help="processes that share the tests of the first part"
    )
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
    """One more than there are cores, but at most four: tests on Ray, and those of processes, wait most of the time."""
    return min(MOST_WORKERS, 1 + (os.cpu_count() or 1))


def commit_seed() -> int:
    """The seed of the commit that is checked out; 0 where there is no git."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return 0
    return int(run.stdout, 16) if run.returncode == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
