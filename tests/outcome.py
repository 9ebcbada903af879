"""Writes down what came of a run, for `make test`, which runs several; programs that tests start hear Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.gate.outcome import FILE_VARIABLE

FILE = pytest.StashKey[str | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Undo a part of what a shell does to programs in the background.

    They ignore Ctrl-C, and so would the programs that tests start: that is inherited, a handler is not.
    """
    config.stash[FILE] = os.environ.pop(FILE_VARIABLE, None)  # not for the runs of pytest that tests start
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, _go_on)


def _go_on(_number: int, _frame: object) -> None:
    """Ignore a signal."""


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """In the test, Ctrl-C is `KeyboardInterrupt`, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Only the one process that has seen all reports does it."""
    file = config.stash[FILE]
    if file is None:
        return
    stats = terminalreporter.stats
    told = {
        "passed": len(stats.get("passed", ())),
        "failed": sorted({name_of(report) for kind in ("failed", "error") for report in stats.get(kind, ())}),
        "skipped": Counter(reason_of(report) for report in stats.get("skipped", ())),
    }
    Path(file).write_text(json.dumps(told))


def name_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What failed; of a file that cannot be imported, each worker says so under its own name."""
    return re.sub(r" ?\bgw\d+$", "", report.nodeid) or "a worker"


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
