"""Threads for bodies: so many run at a time; those that wait for somebody else do not count.

A body that waits for another computation gives up its place and takes one again when it goes on, so bodies that wait
for each other's results never use up the places, however deep the chain: there are as many threads as bodies that run
or wait. Those that go on come before those that have not begun.

Invariants, under the lock: `_running` threads have a place, at most `max_running`; while one is free, nobody waits for
one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from fusion_cluster.quantities import as_count

IDLE_S = 10.0
"""How long a thread without work stays for the next."""


def default_max_running() -> int:
    """How many bodies run in threads at a time when nothing is said: a few more than there are CPUs, for those that
    wait for something else than a computation."""
    return min(32, (os.cpu_count() or 1) + 4)


class Job:
    """Something to run in a thread.

    Args:
        run: what to run; it does not raise.
        on_refused: called instead, with the error, if there can be no thread for it.
    """

    __slots__ = ("on_refused", "run")

    def __init__(self, run: Callable[[], None], on_refused: Callable[[Exception], None]) -> None:
        self.run = run
        self.on_refused = on_refused


class Threads:
    """Runs jobs in threads of its own.

    They are daemons: one that never ends does not keep the process from ending.

    Args:
        max_running: how many run at a time, without those that wait (see `waiting`).

    Raises:
        UsageError: `max_running` is less than 1.
    """

    def __init__(self, max_running: int) -> None:
        self.max_running = as_count("max_threads", max_running)
        self._lock = threading.Lock()
        self._running = 0
        self._jobs: dict[Job, None] = {}
        self._returning: deque[threading.Lock] = deque()
        self._idle: list[_Worker] = []

    @property
    def running(self) -> int:
        """How many run now, without those that wait."""
        return self._running

    def start(self, job: Job) -> None:
        """Run a job as soon as there is a place."""
        with self._lock:
            if self._running >= self.max_running:
                self._jobs[job] = None
                return
            self._running += 1
        self._begin(job)

    def cancel(self, job: Job) -> bool:
        """Take back a job that has not begun; tell whether it will not run."""
        with self._lock:
            if job not in self._jobs:
                return False
            del self._jobs[job]
            return True

    def waiting(self) -> AbstractContextManager[None]:
        """In a job: give up the place for the time of the block. At its end wait for one, whatever happened in it."""
        return _Waiting(self)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _leave_place(self) -> None:
        with self._lock:
            job = self._next_job()
        if job is not None:
            self._begin(job)

    def _take_place(self) -> None:
        with self._lock:
            if self._running < self.max_running:
                self._running += 1
                return
            has_place = threading.Lock()
            has_place.acquire()
            self._returning.append(has_place)
        has_place.acquire()

    def _next_job(self) -> Job | None:
        """Give a place that is free now to the next in line; return it if it is a job. The lock is held."""
        if self._returning:
            self._returning.popleft().release()
            return None
        if self._jobs:
            job = next(iter(self._jobs))
            del self._jobs[job]
            return job
        self._running -= 1
        return None

    def _begin(self, job: Job) -> None:
        """Run a job, which has a place, in a thread that idles, or in a new one."""
        next_job: Job | None = job
        while next_job is not None:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is not None:
                worker.give(next_job)
                return
            try:
                _Worker(self).start(next_job)
            except RuntimeError as error:
                next_job.on_refused(error)
                with self._lock:
                    next_job = self._next_job()
            else:
                return

    def _ended(self, worker: _Worker) -> Job | None:
        """Note that a job has ended; return the next one for its thread, which else idles, or ends."""
        with self._lock:
            job = self._next_job()
            if job is None and len(self._idle) < self.max_running:
                worker.is_idle = True
                self._idle.append(worker)
            return job

    def _retire(self, worker: _Worker) -> bool:
        """Take a thread out of those that idle; tell whether it was there."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True


class _Waiting(AbstractContextManager[None]):
    """The time without a place. (`contextlib` writes into the exceptions that pass; not all can be.)"""

    __slots__ = ("_threads",)

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._threads._leave_place()

    def __exit__(self, *_: object) -> None:
        self._threads._take_place()


class _Worker:
    """One thread.

    Attributes:
        is_idle: it stands among those that idle, or did when it last ended a job.
    """

    def __init__(self, threads: Threads) -> None:
        self.is_idle = False
        self._threads = threads
        self._given = threading.Semaphore(0)
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        self._job = job
        threading.Thread(target=self._work, name="fusion-body", daemon=True).start()

    def give(self, job: Job) -> None:
        self.is_idle = False
        self._job = job
        self._given.release()

    def _work(self) -> None:
        job = self._taken()
        while job is not None:
            job.run()
            job = None  # while it idles, a thread holds nothing
            job = self._threads._ended(self) or self._wait()

    def _wait(self) -> Job | None:
        """Idle; return the next job, or None when it is time to end."""
        if not self.is_idle:
            return None
        if not self._given.acquire(timeout=IDLE_S):
            if self._threads._retire(self):
                return None
            self._given.acquire()  # it was given a job at that moment
        return self._taken()

    def _taken(self) -> Job | None:
        job, self._job = self._job, None
        return job
