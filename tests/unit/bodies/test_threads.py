"""The threads that bodies run in: how many, in which order, and that waiting ones never use up the places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from fusion_cluster import UsageError
from fusion_cluster.bodies import threads as threads_module
from fusion_cluster.bodies.threads import Job, Threads
from tests.waiting import until

TIMEOUT_S = 5.0


class Step(threading.Event):
    """An event that fails the test instead of waiting for ever."""

    def must(self) -> None:
        assert self.wait(TIMEOUT_S)


@pytest.fixture
def refused() -> Iterator[list[Exception]]:
    errors: list[Exception] = []
    yield errors
    assert not errors


@pytest.fixture
def job(refused: list[Exception]) -> Callable[[Callable[[], None]], Job]:
    return lambda run: Job(run, refused.append)


Jobs = Callable[[Callable[[], None]], Job]


def test_no_more_run_than_there_are_places(job: Jobs) -> None:
    threads = Threads(2)
    lock = threading.Lock()
    running: list[int] = []
    most: list[int] = []
    gate = threading.Barrier(2)
    ended = threading.Semaphore(0)

    def run() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        gate.wait(TIMEOUT_S)  # only passed if two run at the same time
        with lock:
            running.pop()
        ended.release()

    for _ in range(20):
        threads.start(job(run))
    for _ in range(20):
        assert ended.acquire(timeout=TIMEOUT_S)
    assert max(most) == 2


def test_one_who_waits_gives_up_its_place_and_takes_one_again(job: Jobs) -> None:
    threads = Threads(1)
    order: list[str] = []
    other_ran, resumed = Step(), Step()

    def first() -> None:
        order.append("first")
        with threads.waiting():
            other_ran.must()
        order.append("first again")
        assert threads.running == 1
        resumed.set()

    def second() -> None:
        order.append("second")
        other_ran.set()

    threads.start(job(first))
    threads.start(job(second))
    resumed.must()
    assert order == ["first", "second", "first again"]


async def test_those_that_go_on_come_before_those_that_have_not_begun(job: Jobs) -> None:
    threads = Threads(1)
    order: list[str] = []
    holds, go_on, done = Step(), Step(), Step()

    def waiting() -> None:
        with threads.waiting():
            holds.must()
        order.append("goes on")

    def holding() -> None:
        holds.set()
        go_on.must()

    def new() -> None:
        order.append("new")
        done.set()

    threads.start(job(waiting))
    threads.start(job(holding))
    threads.start(job(new))
    holds.must()
    await until(lambda: threads._returning)  # `waiting` has asked for a place: the holder lets go only now
    go_on.set()
    done.must()
    assert order == ["goes on", "new"]


def test_waiting_ones_never_use_up_the_places_however_deep_they_nest(job: Jobs) -> None:
    threads = Threads(2)
    depth = 60
    ended = [Step() for _ in range(depth + 1)]

    def nested(level: int) -> Callable[[], None]:
        def run() -> None:
            if level:
                threads.start(job(nested(level - 1)))
                with threads.waiting():
                    ended[level - 1].must()
            ended[level].set()

        return run

    threads.start(job(nested(depth)))
    ended[depth].must()


def test_a_job_that_has_not_begun_can_be_taken_back(job: Jobs) -> None:
    threads = Threads(1)
    begun, go_on, last = Step(), Step(), Step()
    ran: list[str] = []

    def blocking() -> None:
        begun.set()
        go_on.must()

    blocker, unwanted = job(blocking), job(lambda: ran.append("unwanted"))
    threads.start(blocker)
    threads.start(unwanted)
    threads.start(job(last.set))
    begun.must()
    assert threads.cancel(unwanted)
    assert not threads.cancel(unwanted)
    assert not threads.cancel(blocker)
    go_on.set()
    last.must()
    assert not ran


async def test_an_idle_thread_serves_again_and_ends_in_the_end(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "IDLE_S", 0.2)
    threads = Threads(3)
    used: list[threading.Thread] = []

    def note() -> None:
        used.append(threading.current_thread())

    threads.start(job(note))
    await until(lambda: used and threads.running == 0)
    threads.start(job(note))
    await until(lambda: len(used) == 2 and threads.running == 0)
    assert used[0] is used[1]
    await until(lambda: not used[0].is_alive())
    threads.start(job(note))
    await until(lambda: len(used) == 3)
    assert used[2] is not used[0]


def test_a_thread_that_cannot_be_had_is_reported_and_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(1)
    errors: list[Exception] = []

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        threads.start(Job(lambda: None, errors.append))
    assert [str(error) for error in errors] == ["can't start new thread"]
    assert threads.running == 0
    ran = Step()
    threads.start(Job(ran.set, errors.append))
    ran.must()


def test_there_is_at_least_one_place() -> None:
    with pytest.raises(UsageError, match="max_threads"):
        Threads(0)
