"""A.21 for code without an event loop: the place is where the thread has called, and answers come to the thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusion_cluster import ComputeService, compute_method, value_of
from fusion_cluster.app import App
from fusion_cluster.blocking import BlockingHost
from fusion_cluster.graph import Cause, Explanation, Happening
from fusion_cluster.host import LocalHost
from tests.unit.blocking.till import Till, app

TIMEOUT_S = 10.0


@pytest.fixture
def host() -> Iterator[BlockingHost[LocalHost]]:
    with app.local_blocking(timeout_s=TIMEOUT_S) as host:
        yield host


@pytest.fixture
def till(host: BlockingHost[LocalHost]) -> Till:
    return host.service(Till)


def origin_of(explanation: Explanation | None) -> Cause:
    assert explanation is not None
    assert explanation.origin is not None
    return explanation.origin


def line_before() -> int:
    return sys._getframe(1).f_lineno - 1


def test_a_thread_that_invalidates_is_the_place(till: Till) -> None:
    value_of(till.total(("a",)))
    till.sum_of.invalidate("a")
    line = line_before()
    explanation = till.total.why(("a",))
    assert explanation is not None
    assert [str(hop) for hop in explanation.hops] == ["Till.total(('a',), False)", "Till.sum_of('a')"]
    place = origin_of(explanation).place
    assert place is not None
    assert (place.file, place.line) == (__file__, line)
    story = till.total.story(("a",))
    assert [entry.happening for entry in story] == [Happening.COMPUTED, Happening.INVALIDATED]


def test_every_thread_has_its_own_place(till: Till) -> None:
    def invalidate(name: str) -> tuple[str, int]:
        value_of(till.sum_of(name))
        till.sum_of.invalidate(name)
        return name, line_before()

    with ThreadPoolExecutor(4) as pool:
        for name, line in pool.map(invalidate, [f"till {number}" for number in range(50)]):
            place = origin_of(till.sum_of.why(name)).place
            assert place is not None
            assert (place.function.rpartition(".")[2], place.line) == ("invalidate", line)


def test_a_state_that_a_thread_sets_and_a_computed_that_it_invalidates_have_the_place(
    host: BlockingHost[LocalHost], till: Till
) -> None:
    value_of(till.total(("a",), rated=True))
    rate: Any = till.rate
    rate.set(5)
    line = line_before()
    origin = origin_of(till.total.why(("a",), rated=True))
    assert origin.what == "set() of MutableState.value"
    assert origin.place is not None
    assert (origin.place.file, origin.place.line) == (__file__, line)
    value_of(till.sum_of("a"))
    view: Any = till.sum_of.peek("a")
    view.invalidate()
    line = line_before()
    origin = origin_of(till.sum_of.why("a"))
    assert origin.place is not None
    assert (origin.place.file, origin.place.line) == (__file__, line)


def test_a_command_is_named_as_ever(till: Till) -> None:
    value_of(till.sum_of("a"))
    value_of(till.put("a", 5))
    origin = origin_of(till.sum_of.why("a"))
    assert origin.command is not None
    assert (origin.command.name, origin.command.arguments) == ("Till.put", "'a', 5")
    assert origin.place is not None
    assert origin.place.function == "Till.put"


class Workshop(ComputeService):
    """Its bodies run in threads, and invalidate from there what they do not depend on."""

    def __init__(self) -> None:
        self.line = 0
        self.refusal = ""
        self.done = threading.Event()

    @compute_method
    async def part(self, name: str) -> str:
        return name

    @compute_method(offload="thread")
    def worker(self) -> int:
        self.part.invalidate("a")
        self.line = line_before()
        try:
            self.part.why("a")
        except Exception as error:
            self.refusal = str(error)
        return 1


async def test_a_body_in_a_thread_is_the_place_of_what_it_invalidates_and_asks_nothing() -> None:
    async with App("workshop", [Workshop]).local() as host:
        workshop = host.service(Workshop)
        await workshop.part("a")
        assert await workshop.worker() == 1
        place = origin_of(workshop.part.why("a")).place
        assert place is not None
        assert (place.file, place.line, place.function) == (__file__, workshop.line, "Workshop.worker")
        assert ".why()" in workshop.refusal
        assert "event loop" in workshop.refusal
