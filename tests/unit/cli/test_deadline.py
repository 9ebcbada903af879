from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from fusion_cluster.cli.deadline import has_unfinished_work, in_thread, within
from fusion_cluster.errors import DeadlineExceeded

HANGS = """
import threading
from fusion_cluster.cli import main, status

def hang(*_):
    return within(0.05, "asking", threading.Event().wait)

within, status.within = status.within, hang
main(["status"])
"""


def test_what_ends_in_time_gives_its_outcome() -> None:
    assert within(30, "adding", lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        within(30, "dividing", lambda: 1 // 0)
    with pytest.raises(TimeoutError):  # the work's own
        within(30, "waiting", _time_out)
    with pytest.raises(SystemExit):
        within(30, "leaving", lambda: sys.exit(3))


def test_what_does_not_is_left_behind_and_named() -> None:
    release = threading.Event()
    with pytest.raises(DeadlineExceeded, match=r"waiting took longer than 0.01 s \(--timeout\)"):
        within(0.01, "waiting", release.wait)
    assert has_unfinished_work()
    release.set()


def test_work_that_ends_later_can_be_waited_for() -> None:
    release = threading.Event()
    working = in_thread(lambda: release.wait() and "done")
    release.set()
    assert working.result(30) == "done"


def test_the_program_ends_although_its_work_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: asking took longer than 0.05 s (--timeout)\n"


def _time_out() -> None:
    raise TimeoutError
