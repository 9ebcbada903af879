"""The C source compiles without a warning, for every Python that is supported and present."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hatch_build
from tests.native.processes import needs_compiler, python

VERSIONS = ("3.11", "3.12", "3.13")


def interpreters(version: str) -> Iterator[str]:
    """The Pythons of this version: this one, and those that are installed beside it."""
    if version == "{}.{}".format(*sys.version_info):
        yield sys.executable
    yield from map(str, Path(sys.base_prefix).parent.glob(f"*{version}*/bin/python{version}"))


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_the_source_compiles_without_a_warning(version: str) -> None:
    interpreter = next(interpreters(version), None)
    if interpreter is None:
        pytest.skip(f"there is no Python {version} here")
    found = python(["-c", "import sysconfig; print(sysconfig.get_path('include'), end='')"], interpreter=interpreter)
    headers = Path(found.stdout)
    if not (headers / "Python.h").exists():
        pytest.skip(f"the Python {version} here has no headers")
    warnings = ["-Wall", "-Wextra", "-Werror", "-isystem", str(headers)]  # a warning in Python's headers is not ours
    command = [str(hatch_build.compiler()), *hatch_build.FLAGS, *warnings, "-fPIC", "-c", "-o", "/dev/null"]
    run = subprocess.run([*command, str(hatch_build.SOURCE)], capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
