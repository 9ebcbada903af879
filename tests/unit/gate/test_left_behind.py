"""What a test leaves behind fails it by its own name, and does not reach the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.left_behind import PATIENCE_VARIABLE
from tests.unit.gate.inner import run_tests

UNTIDY = """
import asyncio, os, subprocess, sys, threading

def test_a_process():
    subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

def test_a_zombie():
    if os.fork() == 0:
        os._exit(0)

ended = threading.Event()

def test_a_thread():
    threading.Thread(target=ended.wait, name="straggler").start()

def test_a_loop():
    global loop
    loop = asyncio.new_event_loop()

def test_a_setting():
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)

def test_what_is_put_back(tmp_path):
    os.environ["LEFT"] = "behind"
    sys.path.append("/left")
    os.chdir(tmp_path)

def test_that_nothing_is_left():
    assert "LEFT" not in os.environ and "/left" not in sys.path
    ended.set()
    loop.close()
"""


@pytest.mark.timeout(300)
def test_each_test_that_leaves_something_is_named_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")  # nothing of theirs is about to end
    output = run_tests(tmp_path, {"test_untidy.py": UNTIDY}, "-p", "tests.left_behind")
    for said in (
        "test_a_process leaves the process",
        "test_a_zombie leaves the process",
        "ended, and nobody has waited for it",
        "test_a_thread leaves the thread straggler",
        "test_a_loop leaves the event loop",
        "test_a_setting leaves the recursion limit changed from",
        "7 passed, 5 errors",
    ):
        assert said in output, output
