"""An app for code without an event loop: calls block, and give values, from any thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import pytest

from fusion_cluster import (
    CommandOutcomeUnknown,
    DeadlineExceeded,
    FusionError,
    InvalidArgument,
    ShardUnavailable,
    UsageError,
    value_of,
)
from fusion_cluster.blocking import BlockingHost, blocking
from fusion_cluster.host import LocalHost
from fusion_cluster.testing import LocalCluster
from tests.unit.blocking.till import PRIVATE, OutOfPaperError, Shop, Till, app

TIMEOUT_S = 10.0
Host = BlockingHost[LocalHost]


@pytest.fixture
def host() -> Iterator[Host]:
    with app.local_blocking(timeout_s=TIMEOUT_S) as host:
        yield host


@pytest.fixture
def till(host: Host) -> Till:
    return host.service(Till)


def inner(host: Host) -> Till:
    """The service itself, for a look at what it notes."""
    return host.host.service(Till)


def test_a_call_gives_the_value_and_the_second_one_a_cached_one(host: Host, till: Till) -> None:
    assert value_of(till.put("a", 5)) == 5
    assert value_of(till.sum_of("a")) == 5
    assert value_of(till.sum_of(till="a")) == 5
    assert inner(host).computed == ["a"]
    assert value_of(till.total(("a", "b"), rated=True)) == 10


def test_a_command_has_its_effect_before_it_returns(till: Till) -> None:
    for amount in range(1, 30):
        value_of(till.put("a", 1))
        assert value_of(till.total(("a",))) == amount


def test_invalidating_blocks_until_it_is_done(host: Host, till: Till) -> None:
    value_of(till.sum_of("a"))
    inner(host).sums["a"] = 9
    assert value_of(till.sum_of("a")) == 0
    till.sum_of.invalidate("a")
    assert value_of(till.sum_of("a")) == 9


def test_errors_arrive_with_their_type(till: Till) -> None:
    with pytest.raises(OutOfPaperError, match="a"):
        till.receipt("a")
    with pytest.raises(OutOfPaperError, match="a"):
        till.receipt("a")
    with pytest.raises(FusionError) as caught:
        till.receipt("usage")
    assert caught.value.field == "till"
    with pytest.raises(InvalidArgument) as wrong:
        till.sum_of()  # type: ignore[call-arg]
    assert wrong.value.field == "till"


def test_a_service_inside_a_service_blocks_as_well(host: Host) -> None:
    assert value_of(host.service(Shop).till.put("a", 3)) == 3
    assert value_of(host.service(Shop).till.sum_of("a")) == 3


def test_plain_methods_work_on_blocking_services(till: Till) -> None:
    value_of(till.put("a", 7))
    assert till.doubled("a") == 7
    assert value_of(till.counted("a")) == 1007


def test_a_state_can_be_read_and_set(host: Host, till: Till) -> None:
    value_of(till.put("a", 7))
    assert value_of(till.total(("a",), rated=True)) == 14
    assert till.rate.value == 2
    till.rate.set(10)
    assert till.rate.value == 10
    assert value_of(till.total(("a",), rated=True)) == 70
    assert till.rate.computed.value == 10


def test_peeking_computes_nothing(host: Host, till: Till) -> None:
    assert till.sum_of.peek("a") is None
    assert not inner(host).computed
    value_of(till.sum_of("a"))
    view = till.sum_of.peek("a")
    assert view is not None
    assert (view.value, view.error, view.is_consistent, str(view.key)) == (0, None, True, "Till.sum_of('a')")
    assert view.version != 0


def test_many_threads_cause_one_computation_and_see_each_write(host: Host, till: Till) -> None:
    writers, readers, rounds = 4, 12, 20
    start = threading.Barrier(writers + readers)

    def write(number: int) -> None:
        start.wait(TIMEOUT_S)
        for _ in range(rounds):
            value_of(till.put("shared", 1))

    def read(number: int) -> list[int]:
        start.wait(TIMEOUT_S)
        return [value_of(till.total(("shared",))) for _ in range(rounds)]

    with ThreadPoolExecutor(writers + readers) as pool:
        writing = [pool.submit(write, number) for number in range(writers)]
        reading = [pool.submit(read, number) for number in range(readers)]
        for written in writing:
            written.result(TIMEOUT_S)
        for seen in (future.result(TIMEOUT_S) for future in reading):
            assert seen == sorted(seen)
    assert value_of(till.total(("shared",))) == writers * rounds
    assert len(inner(host).computed) <= writers * rounds + 1


def test_a_thousand_reads_at_once_join_one_computation(host: Host, till: Till) -> None:
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(lambda _: value_of(till.sum_of("x")), range(1000))) == {0}
    assert inner(host).computed == ["x"]


def test_a_call_that_takes_too_long_is_given_up(host: Host) -> None:
    till = host.service(Till, timeout_s=0.05)
    with pytest.raises(DeadlineExceeded):
        till.never()
    assert inner(host).cancelled.wait(TIMEOUT_S)  # nobody else waited for it


def test_a_command_that_takes_too_long_has_an_unknown_outcome(host: Host) -> None:
    with pytest.raises(CommandOutcomeUnknown, match=r"Till\.stuck"):
        value_of(host.service(Till, timeout_s=0.05).stuck())
    assert inner(host).cancelled.wait(TIMEOUT_S)


def test_a_timeout_of_the_body_is_not_taken_for_the_callers(host: Host) -> None:
    async def body() -> None:
        raise TimeoutError("of the body")

    with pytest.raises(TimeoutError, match="of the body"):
        host.run(body)


def test_a_computation_that_cancels_itself_is_no_cancellation_of_the_caller(till: Till) -> None:
    with pytest.raises(ShardUnavailable):
        till.gives_up()


def test_anything_can_be_run_on_the_loop(host: Host) -> None:
    async def name_of_thread(prefix: str) -> str:
        return prefix + threading.current_thread().name

    assert_type(host.run(name_of_thread, "in "), str)
    assert host.run(name_of_thread, "in ") == "in fusion-loop"


def test_the_callers_context_variables_are_there(host: Host) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    variable.set("r1")

    async def get() -> str:
        return variable.get("none")

    assert host.run(get) == "r1"


async def test_calling_from_the_loops_own_thread_is_a_usage_error() -> None:
    async with app.local() as host:
        own = blocking(host)
        with pytest.raises(UsageError, match="own thread"):
            own.service(Till)
        till = await asyncio.to_thread(own.service, Till)
        with pytest.raises(UsageError, match="own thread"):
            till.sum_of("a")
        assert await asyncio.to_thread(lambda: value_of(till.sum_of("a"))) == 0


def test_a_blocking_service_in_a_compute_method_is_a_usage_error(till: Till) -> None:
    PRIVATE.append(till)
    try:
        with pytest.raises(UsageError, match="would not be a dependency"):
            till.asks_from_a_thread()
    finally:
        PRIVATE.clear()


def test_services_of_a_cluster_block_in_the_same_way() -> None:
    with blocking(LocalCluster(app, shards=2)) as cluster:
        till = cluster.service(Till)
        assert value_of(till.put("a", 5)) == 5
        assert value_of(till.total(("a", "b", "c"))) == 5


def test_an_app_that_cannot_start_says_so_and_a_body_of_with_that_fails_is_heard() -> None:
    closed: list[BaseException | None] = []

    class Broken:
        def __init__(self, fails: bool) -> None:
            self.fails = fails

        async def __aenter__(self) -> LocalHost:
            if self.fails:
                raise OSError("no disk")
            return LocalHost(app)

        async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
            closed.append(error)

    with pytest.raises(OSError, match="no disk"), BlockingHost(Broken(True)):
        raise AssertionError("not reached")
    error = KeyError("of the caller")
    with pytest.raises(KeyError), BlockingHost(Broken(False)):
        raise error
    assert closed == [error]


def test_a_host_is_used_while_it_is_open_and_opened_once() -> None:
    host = app.local_blocking()
    with pytest.raises(UsageError, match="not open"):
        host.service(Till)
    with host:
        till = host.service(Till)
        value_of(till.sum_of("a"))
    with pytest.raises(UsageError, match="the blocking host of the app 'till' is closed"):
        till.sum_of("a")
    with pytest.raises(UsageError, match="once"), host:
        raise AssertionError("not reached")


def test_callers_that_wait_while_the_host_closes_are_not_left_behind() -> None:
    with ThreadPoolExecutor(1) as pool:
        with app.local_blocking() as host:
            waiting = pool.submit(host.service(Till).never)
            assert inner(host).entered.wait(TIMEOUT_S)
        with pytest.raises(UsageError, match="the host of the app 'till' was closed meanwhile"):
            waiting.result(TIMEOUT_S)


def test_what_is_no_host_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        blocking(object())  # type: ignore[call-overload]
    assert caught.value.field == "host"
    with pytest.raises(UsageError) as caught:
        blocking(LocalHost(app))
    assert caught.value.field == "loop"
    with pytest.raises(UsageError) as caught:
        app.local_blocking(timeout_s=0)
    assert caught.value.field == "timeout_s"
