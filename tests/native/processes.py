"""Runs of Python in a process of their own, for what must be arranged before an interpreter starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import hatch_build
from tests.thorough import times

TIMEOUT_S = 900
GRAPH_TESTS = (
    *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout=200"),
    "tests/property/test_graph_never_stale.py",
    "tests/property/test_graph_twins.py",
    "tests/property/test_consolidation_model.py",
    "tests/property/test_why_is_a_path.py",
    "tests/native/test_reentrance.py",
    "tests/native/test_finalizers.py",
)
"""What goes furthest into the path in C: it runs under checks that make it several times as slow."""

WORKLOAD = ("-m", "tests.native.workload", "--seeds", str(times(4, 60)))
FEWER_STEPS = {"GRAPH_STEPS": str(times(1_500, 10_000))}
SANITIZE = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
    "-O1",
    "-UNDEBUG",
)

needs_compiler = pytest.mark.skipif(hatch_build.compiler() is None, reason="there is no C compiler")


def python(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    interpreter: str = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """Run Python in the root of the checkout; `environment` is added to this process's."""
    return subprocess.run(
        [interpreter, *arguments],
        cwd=hatch_build.ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )


def passes(run: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether a run has ended well; print what it said if not, for pytest to show."""
    if run.returncode:
        print(f"exit status {run.returncode}\n{run.stdout[-20_000:]}")
    return run.returncode == 0


def compiled(
    folder: Path, flags: Sequence[str], source: Path = hatch_build.SOURCE, module: str = hatch_build.MODULE
) -> Path:
    """Return the extension compiled with these flags; fail the test, with what the compiler says, where that fails."""
    try:
        return hatch_build.build(folder, source=source, module=module, flags=flags)
    except hatch_build.NotBuilt as reason:
        pytest.fail(f"{reason}\n{reason.output}")


def sanitizer_environment() -> dict[str, str]:
    """Return what an interpreter that loads an extension compiled with `SANITIZE` needs; skip where it is not there."""
    compiler = hatch_build.compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    runtime = _library(compiler, "libasan.so")
    if runtime is None:
        pytest.skip(f"{compiler} has no runtime of its address sanitizer")
    # Extensions in C++ that come later, as SQLAlchemy's greenlets do, throw through the sanitizer's hands: it must have
    # seen their library when it began.
    libraries = [runtime, *filter(None, [_library(compiler, "libstdc++.so.6")])]
    return {
        "LD_PRELOAD": " ".join(str(library.resolve()) for library in libraries),
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=64",  # what Python leaks at its end is not ours
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }


def _library(compiler: str, name: str) -> Path | None:
    """Return where the compiler finds a library, or None."""
    asked = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    path = Path(asked.stdout.strip())
    return path if path.is_absolute() and path.exists() else None
