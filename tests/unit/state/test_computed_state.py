"""A.20: a live value misses no change, and shows it in its own time."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.state import ComputedState, FixedDelayer, MutableState
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.cells import Cells
from tests.waiting import until


async def test_an_invalidation_that_comes_during_the_computation_is_not_lost() -> None:
    cells, graph = Cells(a=1), Graph()
    attach(cells, GraphHosting(graph))
    gate = cells.gate("2*a")
    async with ComputedState(lambda: cells.double("a")) as state:
        assert_type(state, ComputedState[int])
        await gate.entered.wait()
        await cells.put("a", 2)
        gate.open()
        final = await state.when(lambda value: value == 4)
        assert_type(final, Computed[int])
        assert state.value == 4
    await graph.close()


def test_updates_wait_for_the_delay_and_skip_what_came_within_it() -> None:
    async def main() -> None:
        source = MutableState(0)
        computed: list[int] = []

        async def compute() -> int:
            computed.append(source.value)
            return source.value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(10.0)) as state:
            await state.when(lambda value: value == 0)
            for value in range(1, 6):
                source.set(value)
                await asyncio.sleep(1)
            assert state.value == 0
            await state.when(lambda value: value == 5)
            assert loop.time() == pytest.approx(10.0)
        assert computed == [0, 5]

    run_in_virtual_time(main())


def test_what_a_reader_has_computed_in_the_delay_is_shown_and_the_delay_begins_anew() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            return source.value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(10.0)) as state:
            await state.when(lambda value: value == 0)
            source.set(1)
            await asyncio.sleep(4)
            assert state.value == 0  # shown, and out of date
            assert await state == 1  # true
            assert state.value == 1
            await asyncio.sleep(16)
            source.set(2)
            await state.when(lambda value: value == 2)
            assert loop.time() == pytest.approx(4 + 16 + 10)

    run_in_virtual_time(main())


def test_what_a_reader_has_computed_ends_the_retries() -> None:
    async def main() -> None:
        source = MutableState(0)
        source.set_error(ConnectionError())

        async def compute() -> int:
            return source.value

        loop = asyncio.get_running_loop()
        delayer = FixedDelayer(2.0, retry_delay_s=3600.0)
        async with ComputedState(compute, update_delayer=delayer) as state:
            await asyncio.sleep(5)
            source.set(1)
            assert await state == 1
            assert state.snapshot.retry_count == 0
            source.set(2)
            await state.when(lambda value: value == 2)
            assert loop.time() == pytest.approx(5 + 2)

    run_in_virtual_time(main())


async def test_what_was_computed_from_older_data_never_takes_the_place_of_what_is_newer() -> None:
    cells, graph = Cells(a=1), Graph()
    attach(cells, GraphHosting(graph))
    gate = cells.gate("2*a")
    async with ComputedState(lambda: cells.double("a")) as state:
        await gate.entered.wait()
        await cells.put("a", 2)
        assert await state == 4
        shown = state.snapshot
        gate.open()
        await until(lambda: graph.stats.computations == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert cells.log.count("2*a") == 2
        assert state.snapshot is shown
    await graph.close()


async def test_an_initial_value_is_shown_until_the_first_computation_has_ended() -> None:
    gate = asyncio.Event()

    async def compute() -> int:
        await gate.wait()
        return 2

    state = ComputedState(compute, initial=0)
    assert state.value == 0
    assert state.snapshot.is_initial
    assert state.snapshot.last_value == 0
    assert not state.computed.is_consistent
    seen: list[int] = []
    async with state:
        waiting = asyncio.create_task(state.when(lambda value: value < 5))
        async for computed in state.changes():
            seen.append(computed.value)
            if len(seen) == 2:
                break
            gate.set()
        assert seen == [0, 2]
        assert (await waiting).value == 2  # the initial value was never computed
        assert await state == 2
        assert state.snapshot.update_count == 1


async def test_what_reads_an_initial_value_is_out_of_date_at_once() -> None:
    class Labels(ComputeService):
        @compute_method
        async def label(self) -> str:
            return f"<{state.value}>"

    async def compute() -> int:
        return 2

    graph, labels = Graph(), Labels()
    attach(labels, GraphHosting(graph))
    state = ComputedState(compute, initial=0)
    assert await labels.label() == "<0>"
    assert labels.label.peek() is None
    async with state:
        await state.when(bool)
        assert await labels.label() == "<2>"
    await graph.close()


async def test_waiting_inside_a_computation_depends_on_nothing_but_what_is_returned() -> None:
    class Waits(ComputeService):
        @compute_method
        async def when(self) -> int:
            return (await state.when(lambda value: value == 2)).value

    source, graph, waits = MutableState(1), Graph(), Waits()
    attach(waits, GraphHosting(graph))

    async def compute() -> int:
        return source.value

    async with ComputedState(compute) as state:
        await state.when(lambda value: value == 1)
        waiting = asyncio.ensure_future(_value_of(waits))
        await asyncio.sleep(0)
        source.set(2)
        assert await waiting == 2
        assert waits.when.peek() is not None
        source.set(3)
        assert waits.when.peek() is None
    await graph.close()


async def _value_of(waits: Any) -> int:
    return int(await waits.when())


async def test_a_compute_method_may_depend_on_a_computed_state() -> None:
    class Labels(ComputeService):
        @compute_method
        async def label(self) -> str:
            return f"<{await state}>"

    source, graph, labels = MutableState(1), Graph(), Labels()
    attach(labels, GraphHosting(graph))

    async def compute() -> int:
        return source.value

    async with ComputedState(compute, update_delayer=FixedDelayer(3600)) as state:
        assert await labels.label() == "<1>"
        source.set(2)
        assert labels.label.peek() is None
        assert await labels.label() == "<2>"
    await graph.close()


async def test_a_state_started_inside_a_computation_is_not_part_of_it() -> None:
    class Starter(ComputeService):
        @compute_method
        async def start(self) -> int:
            state.start()
            await state.when(bool)
            return 1

    source, graph, starter = MutableState(1), Graph(), Starter()
    attach(starter, GraphHosting(graph))

    async def compute() -> int:
        return source.value

    state = ComputedState(compute)
    assert await starter.start() == 1
    source.set(2)
    await state.when(lambda value: value == 2)
    assert starter.start.peek() is not None
    await state.close()
    await graph.close()
