"""The C source compiles without a warning, for every Python that is supported and present."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import hatch_build
from tests.native.processes import needs_compiler, python
from tools.gate.interpreters import find

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_the_source_compiles_without_a_warning(version: str) -> None:
    interpreter = find(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version} here")
    where = "import sysconfig; print(sysconfig.get_path('include'), end='')"
    found = python(["-c", where], interpreter=str(interpreter))
    headers = Path(found.stdout)
    if not (headers / "Python.h").exists():
        pytest.skip(f"the Python {version} here has no headers")
    warnings = ["-Wall", "-Wextra", "-Werror", "-isystem", str(headers)]  # a warning in Python's headers is not ours
    command = [str(hatch_build.compiler()), *hatch_build.FLAGS, *warnings, "-fPIC", "-c", "-o", "/dev/null"]
    run = subprocess.run([*command, str(hatch_build.SOURCE)], capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
