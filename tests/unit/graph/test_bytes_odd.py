"""A.12, in bytes: values that are too large, estimates that cannot be relied upon, values set by hand."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fusion_cluster.graph import Graph
from fusion_cluster.graph.computing.retention import NODE_BYTES
from fusion_cluster.graph.why.cause import REPLACED
from tests.unit.graph.pages import LARGE, MAX_BYTES, hosted, is_paged_out, size_of, value_of, watch


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    graph = Graph(max_bytes=MAX_BYTES, size_of=size_of)
    yield graph
    graph.validate()
    await graph.close()
    graph.validate()
    assert graph.stats.bytes == 0


# -- values that are too large ---------------------------------------------------------------------------------------
async def test_a_value_that_is_too_large_is_given_to_all_and_kept_for_none(graph: Graph) -> None:
    pages = hosted(graph)
    pages.sizes[0] = 2 * MAX_BYTES
    await pages.text(1)
    pages.gate = asyncio.Event()
    tasks = [asyncio.create_task(value_of(pages.text(0))) for _ in range(3)]
    await asyncio.sleep(0)
    told: list[int] = []
    pages.text(0).join(lambda computed: told.append(len(computed.value)))
    pages.gate.set()
    assert [len(await task) for task in tasks] == [2 * MAX_BYTES] * 3
    assert told == [2 * MAX_BYTES]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pages.text.peek(0) is None
    assert pages.text.peek(1) is not None  # nobody else had to go for it
    graph.validate()
    pages.gate = None
    assert len(await pages.text(0)) == 2 * MAX_BYTES


async def test_what_is_made_of_a_value_that_is_too_large_is_kept(graph: Graph) -> None:
    pages = hosted(graph)
    pages.sizes[0] = 2 * MAX_BYTES
    assert await pages.length(0) == 2 * MAX_BYTES
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await pages.length(0) == 2 * MAX_BYTES
    assert pages.log == ["text 0", "length 0"]
    assert is_paged_out(pages.text(0))
    pages.sizes[0] = 3
    await pages.text.invalidate(0)
    assert await pages.length(0) == 3


async def test_many_values_that_are_too_large_at_once_are_all_given(graph: Graph) -> None:
    pages = hosted(graph)
    pages.sizes.update(dict.fromkeys(range(20), 2 * MAX_BYTES))
    assert await pages.total(tuple(range(20))) == 40 * MAX_BYTES
    pages.gate = asyncio.Event()
    task = asyncio.create_task(value_of(pages.total(tuple(range(19)))))
    for _ in range(3):
        await asyncio.sleep(0)
    pages.gate.set()
    assert await task == 38 * MAX_BYTES
    for _ in range(3):
        await asyncio.sleep(0)
    assert all(pages.text.peek(page) is None for page in range(20))


async def test_values_of_one_turn_reach_those_who_wait_however_small_the_bound() -> None:
    graph = Graph(max_bytes=3 * NODE_BYTES + LARGE, size_of=size_of)
    pages = hosted(graph)
    pages.gate = asyncio.Event()
    tasks = [asyncio.create_task(value_of(pages.length(page))) for page in range(10)]
    for _ in range(3):
        await asyncio.sleep(0)
    pages.gate.set()
    assert [await task for task in tasks] == [LARGE] * 10
    graph.validate()
    await graph.close()


# -- estimates that cannot be relied upon ----------------------------------------------------------------------------
@pytest.mark.parametrize("error", [ValueError("no idea"), RecursionError(), MemoryError()])
async def test_an_estimate_that_fails_counts_for_nothing_and_is_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> int:
        raise error

    graph = Graph(max_bytes=MAX_BYTES, size_of=fail)
    pages = hosted(graph)
    with caplog.at_level(logging.ERROR):
        assert await pages.text(1) == bytes(LARGE)
    assert "Pages.text cannot be estimated" in caplog.text
    assert graph.stats.bytes == NODE_BYTES
    graph.validate()
    await graph.close()


@pytest.mark.parametrize("size", [-1, -(10**30), math.nan, "many", None])
async def test_an_estimate_that_makes_no_sense_counts_for_nothing(size: Any) -> None:
    graph = Graph(max_bytes=MAX_BYTES, size_of=lambda _: size)
    pages = hosted(graph)
    assert await pages.text(1) == bytes(LARGE)
    assert graph.stats.bytes == NODE_BYTES
    graph.validate()
    await graph.close()


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**64, 10**30, math.inf, 1e300])
async def test_an_enormous_estimate_breaks_nothing(size: float) -> None:
    for max_bytes in (MAX_BYTES, 1e300):
        graph = Graph(max_bytes=max_bytes, size_of=lambda _: size)  # type: ignore[arg-type, return-value]
        pages = hosted(graph)
        for page in range(5):
            assert await pages.length(page) == LARGE
            graph.validate()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        graph.validate()
        await graph.close()


async def test_an_estimate_may_itself_use_the_graph() -> None:
    def use(_: object) -> int:
        if uses:
            uses.pop()()
        return LARGE

    graph = Graph(max_bytes=MAX_BYTES, size_of=use)
    pages = hosted(graph)
    uses: list[Callable[[], object]] = [lambda: pages.text(9), lambda: pages.text.invalidate(1)]
    text = pages.text(1)
    assert await text == bytes(LARGE)  # what is estimated is gone when the estimate is there
    assert not text.is_consistent
    graph.validate()
    assert await pages.text(1) == bytes(LARGE)
    assert pages.log == ["text 1", "text 1"]
    uses += [lambda: [pages.text.invalidate(page) for page in range(10)], lambda: pages.text.peek(2)]
    await pages.text(2)
    await pages.text(3)
    graph.validate()
    await graph.close()


async def test_an_observer_of_a_victim_may_invalidate_what_the_room_is_made_for(graph: Graph) -> None:
    pages = hosted(graph)
    for page in range(5):
        watch(pages.kept(page), lambda _: pages.text.invalidate(9))
        await pages.kept(page)
    for page in range(5):
        watch(pages.text(page), lambda _: pages.text.invalidate(9))
    assert await pages.text(9) == bytes(LARGE)
    graph.validate()


# -- values set by hand ----------------------------------------------------------------------------------------------
async def test_a_value_set_by_hand_is_weighed_like_any_other(graph: Graph) -> None:
    pages = hosted(graph)
    function = pages.text.function
    for page in range(10):
        function.assign_value((page,), bytes(LARGE), REPLACED)
        assert graph.stats.bytes == (NODE_BYTES + LARGE) * min(page + 1, 5)
    graph.validate()


def test_a_value_set_by_hand_may_be_too_large_also_where_no_loop_runs() -> None:
    graph = Graph(max_bytes=MAX_BYTES, size_of=size_of)
    pages = hosted(graph)
    computed = pages.text.function.assign_value((1,), bytes(2 * MAX_BYTES))
    assert pages.text.peek(1) is None
    assert len(computed.value) == 2 * MAX_BYTES
    graph.validate()
    asyncio.run(graph.close())


# -- the loop that the bound is kept in ------------------------------------------------------------------------------
def test_a_loop_that_ends_at_once_leaves_nothing_behind() -> None:
    graph = Graph(max_bytes=MAX_BYTES, size_of=size_of)
    pages = hosted(graph)
    pages.sizes[0] = 2 * MAX_BYTES
    for _ in range(3):
        assert len(asyncio.run(value_of(pages.text(0)))) == 2 * MAX_BYTES
    bound: Any = graph._bytes
    assert len(bound._new) + len(bound._unread) + len(bound._leaving) <= 3

    async def settle() -> None:
        await pages.text(0)
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(settle())
    assert not bound._new
    assert not bound._unread
    assert not bound._leaving
    graph.validate()
    asyncio.run(graph.close())
