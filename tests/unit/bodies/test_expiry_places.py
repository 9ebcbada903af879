"""Where a body may say for how long its result stands, and where nobody can."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fusion_cluster import RayTask, UsageError, expire_after, expire_at
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method
from fusion_cluster.testing import VirtualRuntime
from tests.unit.bodies.terms import Terms, in_virtual_time, seconds_until_invalidated


# -- where it is said --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["plain", "aside"])
def test_it_may_be_said_wherever_the_body_goes(method: str) -> None:
    @in_virtual_time
    async def test(terms: Terms, graph: Graph) -> None:
        terms.after("a", 5)
        computed = await getattr(terms, method)("a").update()
        assert await seconds_until_invalidated(computed) == pytest.approx(5)

    test()


@in_virtual_time
async def test_each_body_says_it_for_itself_alone(terms: Terms, graph: Graph) -> None:
    class Both(ComputeService):
        @compute_method
        async def both(self) -> int:
            expire_after(3)
            return await terms.term("a")

    both = Both()
    attach(both, GraphHosting(graph))
    await both.both()
    assert await seconds_until_invalidated(both.both()) == pytest.approx(3)
    assert terms.term("a").is_consistent


@pytest.fixture
async def threaded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Terms]:
    """Terms in real time: threads do not wait for a virtual one."""
    graph, terms = Graph(), Terms(VirtualRuntime().wall_clock)
    attach(terms, GraphHosting(graph))
    yield terms
    graph.validate()
    await graph.close()


@pytest.mark.parametrize("method", ["threaded", "threaded_async"])
async def test_it_may_be_said_in_a_thread(threaded: Terms, method: str) -> None:
    threaded.after("a", 0.05)
    computed = await getattr(threaded, method)("a").update()
    assert computed.value == "a"
    assert computed.is_consistent
    assert 0.02 < await seconds_until_invalidated(computed) < 1
    threaded.say["a"] = lambda: expire_at(datetime.now(UTC) + timedelta(seconds=0.05))
    computed = await getattr(threaded, method)("a").update()
    assert computed.is_consistent
    await computed.when_invalidated()


@pytest.mark.parametrize("method", ["threaded", "threaded_async"])
async def test_without_any_time_a_result_of_a_thread_is_out_of_date_from_birth(threaded: Terms, method: str) -> None:
    threaded.after("a", 0)
    computed = getattr(threaded, method)("a")
    assert await computed == "a"
    assert not computed.is_consistent


# -- where it cannot be said -------------------------------------------------------------------------------------------
async def test_outside_of_a_compute_method_there_is_nothing_to_expire() -> None:
    with pytest.raises(UsageError, match="no compute method runs here"):
        expire_after(1)
    with pytest.raises(UsageError, match="no compute method runs here"):
        expire_at(time.time() + 1)


async def test_a_task_has_no_way_to_the_result_that_is_made_of_it(graph: Graph) -> None:
    class Tasks(ComputeService):
        @compute_method(offload=RayTask())
        def task(self) -> None:  # in a thread, where there is no Ray; under the same rules
            expire_after(1)

    tasks = Tasks()
    attach(tasks, GraphHosting(graph))
    with pytest.raises(UsageError, match="unless as a task"):
        await tasks.task()


@in_virtual_time
async def test_what_a_body_has_left_behind_comes_too_late_to_say_it(terms: Terms, graph: Graph) -> None:
    left: list[asyncio.Task[None]] = []
    goes_on = asyncio.Event()

    async def leave() -> None:
        await goes_on.wait()
        expire_after(1)

    terms.say["a"] = lambda: left.append(asyncio.create_task(leave()))
    await terms.term("a")
    goes_on.set()
    with pytest.raises(UsageError, match="has been computed"):
        await left[0]


@pytest.mark.parametrize(
    ("say", "field"),
    [
        (lambda: expire_after(math.nan), "delay_s"),
        (lambda: expire_after(True), "delay_s"),
        (lambda: expire_after("5"), "delay_s"),  # type: ignore[arg-type]
        (lambda: expire_at(math.nan), "moment"),
        (lambda: expire_at(datetime(2030, 1, 1)), "moment"),
    ],
)
def test_what_is_no_time_is_a_usage_error_that_names_the_argument(say: Any, field: str) -> None:
    @in_virtual_time
    async def test(terms: Terms, graph: Graph) -> None:
        terms.say["a"] = say
        with pytest.raises(UsageError) as caught:
            await terms.term("a")
        assert caught.value.field == field

    test()
