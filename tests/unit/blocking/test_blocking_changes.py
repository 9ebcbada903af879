"""Changes for code without an event loop: an iterator that waits, can be interrupted, and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import pytest

from fusion_cluster import DeadlineExceeded, UsageError, value_of
from fusion_cluster.blocking import BlockingHost, BlockingIterator, ComputedView
from fusion_cluster.host import LocalHost
from tests.unit.blocking.till import OutOfPaperError, Till, app

TIMEOUT_S = 10.0
SHORT_S = 0.05
Host = BlockingHost[LocalHost]


@pytest.fixture
def host() -> Iterator[Host]:
    with app.local_blocking(timeout_s=TIMEOUT_S) as host:
        yield host


@pytest.fixture
def till(host: Host) -> Till:
    return host.service(Till)


def test_changes_give_the_value_now_and_after_each_change(host: Host, till: Till) -> None:
    changes = host.changes(till.sum_of, "a")
    assert_type(changes, BlockingIterator[ComputedView[int]])
    assert next(changes).value == 0
    for expected in (5, 10, 15):
        value_of(till.put("a", 5))
        assert changes.next(TIMEOUT_S).value == expected
    changes.close()
    with pytest.raises(StopIteration):
        next(changes)


def test_a_reader_waits_for_a_change_made_by_another_thread(host: Host, till: Till) -> None:
    seen: list[int] = []
    has_seen = threading.Semaphore(0)

    def read() -> None:
        for computed in host.changes(till.sum_of, "a"):
            seen.append(computed.value)
            has_seen.release()
            if computed.value >= 3:
                break

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for _ in range(3):
            assert has_seen.acquire(timeout=TIMEOUT_S)
            value_of(till.put("a", 1))
        reading.result(TIMEOUT_S)
    assert seen[0] == 0
    assert seen[-1] == 3
    assert seen == sorted(set(seen))


def test_a_wait_whose_time_is_up_can_be_taken_up_again_and_misses_nothing(host: Host, till: Till) -> None:
    changes = host.changes(till.sum_of, "a")
    changes.next(TIMEOUT_S)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            changes.next(SHORT_S)
    value_of(till.put("a", 5))
    assert changes.next(TIMEOUT_S).value == 5
    changes.close()


def test_closing_ends_the_wait_of_another_thread(host: Host, till: Till) -> None:
    first = threading.Event()
    with host.changes(till.sum_of, "a") as changes, ThreadPoolExecutor(1) as pool:

        def read() -> int:
            count = 0
            for _ in changes:
                count += 1
                first.set()
            return count

        reading = pool.submit(read)
        assert first.wait(TIMEOUT_S)
        changes.close()
        assert reading.result(TIMEOUT_S) == 1


def test_an_abandoned_iteration_leaves_nothing_on_the_loop(host: Host, till: Till) -> None:
    for computed in host.changes(till.sum_of, "a"):
        assert computed.is_consistent
        break
    changes = host.changes(till.sum_of, "a")
    changes.next(TIMEOUT_S)
    with pytest.raises(DeadlineExceeded):
        changes.next(SHORT_S)  # this leaves a task that waits
    del changes

    async def task_names() -> list[str]:
        import asyncio

        await asyncio.sleep(0)
        return [str(task.get_coro()) for task in asyncio.all_tasks()]

    give_up = time.monotonic() + TIMEOUT_S
    while any("_next_of" in name for name in host.run(task_names)):
        assert time.monotonic() < give_up


def test_errors_are_in_the_computeds(host: Host, till: Till) -> None:
    computed = host.changes(till.receipt, "a").next(TIMEOUT_S)
    assert isinstance(computed.error, OutOfPaperError)
    with pytest.raises(OutOfPaperError):
        _ = computed.value


def test_a_view_tells_when_its_computed_is_out_of_date_and_finds_the_next(host: Host, till: Till) -> None:
    value_of(till.sum_of("a"))
    view = host.changes(till.sum_of, "a").next(TIMEOUT_S)
    with pytest.raises(DeadlineExceeded):
        view.when_invalidated(SHORT_S)
    assert view.update() is view
    value_of(till.put("a", 2))
    view.when_invalidated(TIMEOUT_S)
    assert not view.is_consistent
    assert view.value == 0
    latest = view.update(TIMEOUT_S)
    assert (latest.value, latest.is_consistent) == (2, True)
    assert latest.version != view.version
    latest.invalidate()
    assert not latest.is_consistent


def test_a_view_is_readable_after_its_host_has_closed() -> None:
    with app.local_blocking() as host:
        view = host.changes(host.service(Till).sum_of, "a").next(TIMEOUT_S)
    assert view.value == 0
    assert not view.is_consistent


def test_changes_of_a_state(till: Till) -> None:
    with till.rate.changes() as changes:  # type: ignore[attr-defined]
        assert next(changes).value == 2
        till.rate.set(3)
        assert changes.next(TIMEOUT_S).value == 3


def test_changes_are_of_methods_of_this_kind_of_host(host: Host) -> None:
    with pytest.raises(UsageError, match="compute method of a service of this host"):
        host.changes(host.host.service(Till).sum_of, "a")
