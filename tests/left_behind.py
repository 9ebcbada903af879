"""No test leaves anything to the next.

Processes, threads, event loops and settings of the interpreter are compared with what was there before the test: it
fails, by its own name, when something is left. A process that is left is killed, so that one test fails and not those
after it. The environment, `sys.path`, the working folder and modules imported from temporary folders are put back, for
a program that runs inside the test changes them by right. What a fixture of a wider scope makes is its own to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_VARIABLE = "LEFT_BEHIND_PATIENCE_S"
PATIENCE_S = float(os.environ.get(PATIENCE_VARIABLE, "20"))
"""How long what is about to end may take, on a machine that has much to do."""

WIDE_SCOPES = ("class", "module", "package", "session")

LINGERING = {
    "fusion-body": "of a graph's bodies: it waits for the next for ten seconds",
    "waitpid-": "asyncio's, which ends with the process it waits for",
    "(_poll_wrapper)": "of gRPC: one for all event loops of the process, while anything of its own is referred to",
}
"""What is in the names of threads that may stay for a while, and why."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)
TEMPORARY = os.path.realpath(tempfile.gettempdir()) + os.sep

Things = dict[Any, str]
"""What can be left behind: what tells one from another, and what to call it."""

_loops: weakref.WeakSet[asyncio.BaseEventLoop] = weakref.WeakSet()


# -- what can be left behind ------------------------------------------------------------------------------------------
def child_processes() -> Things:
    """The child processes of this one, also those that have ended and were not waited for."""
    found = {}
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread, or the child, is gone
            for pid in children.read_text().split():
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                what = "ended, and nobody has waited for it" if fields[0] == "Z" else " ".join(words)[:160].strip()
                found[int(pid), fields[19]] = f"the process {pid} ({what})"
    return found


def running_threads() -> Things:
    """The threads that Python has started."""
    return {
        thread: f"the thread {thread.name}"
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread) and not any(part in thread.name for part in LINGERING)
    }


def open_loops() -> Things:
    """The event loops of asyncio that are not closed."""
    return {loop: f"the event loop {loop!r}" for loop in _loops if not loop.is_closed()}


KINDS: tuple[Callable[[], Things], ...] = (child_processes, running_threads, open_loops)


def lasting_things() -> Things:
    """All that may last longer than its test."""
    return {key: name for kind in KINDS for key, name in kind().items()}


def interpreter_settings() -> dict[str, object]:
    """What a process has only one of, and a test may not leave changed."""
    callbacks = [callback for callback in gc.callbacks if "hypothesis" not in getattr(callback, "__module__", "")]
    return {
        **{f"the handler of {signum.name}": signal.getsignal(signum) for signum in SIGNALS},
        "the recursion limit": sys.getrecursionlimit(),
        "the switch interval": sys.getswitchinterval(),
        "the garbage collector": (gc.isenabled(), gc.get_threshold(), callbacks),
        "the level of the root logger": logging.getLogger().level,
        "the level below which nothing is logged": logging.root.manager.disable,
        "the hook of threads": threading.excepthook,
    }


class Surroundings:
    """The environment, `sys.path`, the working folder and the modules, as they are now."""

    def __init__(self) -> None:
        self._variables = dict(os.environ)
        self._path = [*sys.path]
        self._folder = os.getcwd()
        self._modules = frozenset(sys.modules)

    def put_back(self) -> None:
        """Make them what they were."""
        now = os.environ
        for name in now.keys() | self._variables.keys():
            if name != "PYTEST_CURRENT_TEST" and now.get(name) != (before := self._variables.get(name)):
                if before is None:
                    del now[name]
                else:
                    now[name] = before
        sys.path[:] = self._path
        os.chdir(self._folder)
        for name in sys.modules.keys() - self._modules:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(TEMPORARY):
                del sys.modules[name]


# -- the comparison ---------------------------------------------------------------------------------------------------
class LeftBehind:
    """Compares what is there after each test with what was there before it."""

    def __init__(self) -> None:
        self._lasting: Things = {}
        self._settings: dict[str, object] = {}
        self._surroundings = Surroundings()
        self._is_wide_fixture_gone = False
        self._has_failed = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        self._lasting, self._settings = lasting_things(), interpreter_settings()
        self._surroundings = Surroundings()
        self._is_wide_fixture_gone = self._has_failed = False
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        if fixturedef.scope not in WIDE_SCOPES:
            return (yield)
        lasting, settings = lasting_things(), interpreter_settings()
        try:
            return (yield)
        finally:
            self._lasting.update((key, name) for key, name in lasting_things().items() if key not in lasting)
            self._settings.update((name, now) for name, now in interpreter_settings().items() if settings[name] != now)
            self._surroundings = Surroundings()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._has_failed |= report.failed
        return report

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        self._is_wide_fixture_gone |= fixturedef.scope in WIDE_SCOPES

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        try:
            return (yield)
        finally:
            if not self._is_wide_fixture_gone:  # it may have put back what it had changed long before
                self._surroundings.put_back()
            if (left := self._left()) and not self._has_failed:  # one that fails may well leave something
                pytest.fail(f"{item.name} leaves {', '.join(left)}", pytrace=False)

    def _left(self) -> list[str]:
        give_up = time.monotonic() + PATIENCE_S
        while (left := self._still_there()) and (left_s := give_up - time.monotonic()) > 0:
            gc.collect()  # what is in a cycle is closed by it
            time.sleep(0.01 if left_s > PATIENCE_S - 0.1 else 0.2)
        end_processes(left)
        changed = [
            f"{name} changed from {self._settings[name]!r} to {now!r}"
            for name, now in interpreter_settings().items()
            if self._settings[name] != now and not self._is_wide_fixture_gone
        ]
        return [*left.values(), *changed]

    def _still_there(self) -> Things:
        return {key: name for key, name in lasting_things().items() if key not in self._lasting}


def end_processes(left: Things) -> None:
    """Kill the processes among these and wait for them, so that the next test does not meet them."""
    for key in left:
        if isinstance(key, tuple):
            with contextlib.suppress(ProcessLookupError):
                os.kill(key[0], signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(key[0], 0)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to look, where tests run: not in the controller of several workers."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(LeftBehind(), "left behind")
    _watch_loops()


def _watch_loops() -> None:
    original = asyncio.BaseEventLoop.__init__

    def init(loop: asyncio.BaseEventLoop) -> None:
        original(loop)
        _loops.add(loop)

    asyncio.BaseEventLoop.__init__ = init  # type: ignore[method-assign,assignment]
