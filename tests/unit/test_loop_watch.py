"""A loop that is blocked is told of, by name and once; one that has ended is noticed."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import sys
import threading
from collections.abc import Iterator

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.blocking import BlockingHost
from fusion_cluster.errors import BodyExited, InvalidArgument
from fusion_cluster.host import LocalHost
from fusion_cluster.loop_watch import LoopWatch, Pulse

WAIT_S = 30.0


class Told(logging.Handler):
    """What was logged; whoever blocks waits here until it was."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.is_told = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.is_told.set()


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    log = logging.getLogger("fusion_cluster.loop_watch")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


class Slow(ComputeService):
    told: Told | None = None

    def block(self) -> None:
        assert self.told is not None
        assert self.told.is_told.wait(WAIT_S)

    @compute_method
    async def read(self, name: str) -> int:
        self.block()
        return 1

    @command
    async def change(self, name: str) -> None:
        self.block()

    @compute_method
    async def stop_it(self) -> int:
        asyncio.get_running_loop().stop()
        return 1

    @compute_method
    async def exit_in_a_task(self) -> int:
        await asyncio.create_task(self.exit())
        return 1

    async def exit(self) -> None:
        sys.exit(3)

    @compute_method
    async def well(self, number: int) -> int:
        return number


@pytest.mark.parametrize("method", ["read", "change"])
async def test_what_blocks_a_loop_is_named_once(method: str, told: Told) -> None:
    watch = LoopWatch("shard 3", blocked_s=0.04)
    watch.start()
    try:
        async with App("slow", [Slow]).local() as host:
            host.service(Slow).told = told
            await getattr(host.service(Slow), method)("flights")
    finally:
        watch.stop()
    (line,) = [line for line in told.lines if "blocked" in line]
    assert re.search(rf"shard 3 has been blocked for [\d.]+ s by Slow.{method}\('flights'\):", line)
    assert "in block" in line


async def test_what_else_blocks_it_is_shown_too(told: Told) -> None:
    watch = LoopWatch("shard 3", blocked_s=0.04)
    watch.start()
    try:
        assert told.is_told.wait(WAIT_S)
    finally:
        watch.stop()
    assert "something that is not a method of a service" in told.lines[0]
    assert "test_what_else_blocks_it_is_shown_too" in told.lines[0]


def test_each_silence_is_told_once_and_one_of_the_whole_process_not_at_all() -> None:
    pulse = Pulse(1.0, 0.25, 0.0)
    assert [pulse.silent_s(now_s / 4) for now_s in range(1, 7)] == [0, 0, 0, 1.0, 0, 0]
    assert pulse.heard(2.0) == 2.0
    assert pulse.silent_s(2.25) == 0
    assert pulse.heard(2.25) == 0
    assert pulse.silent_s(60.0) == 0, "the watching thread has slept, too"
    assert [pulse.silent_s(60.0 + now_s / 4) for now_s in range(1, 5)] == [0, 0, pytest.approx(1.0), 0]


def test_a_loop_that_has_ended_is_noticed_and_one_that_is_no_longer_watched_is_not(told: Told) -> None:
    ended: list[str] = []
    watches: list[LoopWatch] = []

    async def main(name: str) -> None:
        watch = LoopWatch(name, on_ended=ended.append, blocked_s=0.04)
        watches.append(watch)
        watch.start()
        if name == "stopped in good order":
            watch.stop()

    asyncio.run(main("stopped in good order"))
    asyncio.run(main("shard 3"))
    for watch in watches:
        watch._thread.join(WAIT_S)
    assert ended == ["shard 3"]
    assert told.lines == ["the event loop of shard 3 has ended: something has stopped it"]


@pytest.mark.parametrize("value", ["-1", "nan", "soon"])
async def test_a_threshold_that_makes_no_sense_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_BLOCKED_LOOP_S", value)
    with pytest.raises(InvalidArgument, match="FUSION_BLOCKED_LOOP_S"):
        LoopWatch("shard 3")


async def test_a_threshold_of_zero_means_never(told: Told) -> None:
    watch = LoopWatch("shard 3", blocked_s=0)
    assert watch._blocked_s == math.inf


@pytest.fixture
def blocking_host() -> Iterator[BlockingHost[LocalHost]]:
    with App("slow", [Slow]).local_blocking(timeout_s=WAIT_S) as host:
        yield host


@pytest.mark.parametrize("method", ["stop_it", "exit_in_a_task"])
def test_a_blocking_host_serves_on_when_its_loop_was_stopped(
    method: str, blocking_host: BlockingHost[LocalHost]
) -> None:
    slow = blocking_host.service(Slow)
    if method == "stop_it":
        assert slow.stop_it() == 1  # type: ignore[comparison-overlap]
    else:
        with pytest.raises(BodyExited, match=r"exit_in_a_task raised SystemExit: 3"):
            slow.exit_in_a_task()
    assert [slow.well(number) for number in range(3)] == [0, 1, 2]  # type: ignore[comparison-overlap]


def test_what_is_run_on_a_blocking_host_exits_where_it_was_asked_for(blocking_host: BlockingHost[LocalHost]) -> None:
    async def exit_now() -> None:
        sys.exit(4)

    with pytest.raises(SystemExit) as caught:
        blocking_host.run(exit_now)
    assert caught.value.code == 4
    assert blocking_host.service(Slow).well(1) == 1  # type: ignore[comparison-overlap]
