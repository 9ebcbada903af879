"""The process that members of process clusters are forked from.

`pytest_plugins = ["tests.processes.zygotes"]` gives the fixture `zygote`.
A module that says so imports nothing from here: pytest wants to be the first.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def zygote() -> Iterator[subprocess.Popen[bytes]]:
    """One for all tests of a session; started when the first needs it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.processes.member_process"], stdin=subprocess.PIPE, cwd=ROOT
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)
