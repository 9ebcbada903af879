"""A.1 and A.20: a live value misses no change, ends when told, and tries again after errors."""

from __future__ import annotations

import asyncio
from typing import assert_type

import pytest

from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Computed, ComputeService, Graph, GraphHosting, attach, compute_method
from fusion_cluster.state import ComputedState, FixedDelayer, MutableState, UpdateDelayer
from tests.unit.graph.cells import Cells
from tests.virtual_time import run_in_virtual_time


class ImmediateDelayer:
    async def delay(self, retry_count: int) -> None:
        pass


DELAYERS = [FixedDelayer(), FixedDelayer(0.01), FixedDelayer(3.0), ImmediateDelayer()]


@pytest.mark.parametrize("delayer", DELAYERS, ids=str)
def test_readers_racing_one_writer_all_end_on_the_final_value(delayer: UpdateDelayer) -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            value = source.value
            await asyncio.sleep(0.005)
            return value

        states = [ComputedState(compute, update_delayer=delayer) for _ in range(10)]
        for state in states:
            state.start()
        for value in range(1, 101):
            source.set(value)
            await asyncio.sleep(0.001)
        finals = await asyncio.gather(*(state.when(lambda value: value == 100) for state in states))
        assert [final.value for final in finals] == [100] * 10
        for state in states:
            assert state.computed.is_consistent
            await state.close()

    run_in_virtual_time(main())


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


async def test_closing_in_mid_update_cancels_it_and_does_not_try_again() -> None:
    runs: list[str] = []
    entered = asyncio.Event()

    async def compute() -> int:
        runs.append("began")
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            runs.append("ended")
        return 1

    state = ComputedState(compute)
    state.start()
    state.start()
    await entered.wait()
    reader = asyncio.create_task(state.when(bool))
    await asyncio.sleep(0)
    await state.close()
    assert runs == ["began", "ended"]
    with pytest.raises(UsageError, match="closed"):
        await reader
    with pytest.raises(UsageError, match="not been computed"):
        _ = state.value
    with pytest.raises(UsageError, match="closed"):
        state.start()
    await state.close()


async def test_the_last_value_stays_readable_after_the_end() -> None:
    source = MutableState(1)

    async def compute() -> int:
        return source.value + 1

    async with ComputedState(compute, name="plus one") as state:
        assert await state == 2
        await state.when(bool)
    assert state.value == 2
    assert state.error is None
    assert [computed.value async for computed in state.changes()] == [2]
    assert "plus one" in repr(state)


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
            assert state.value == 0  # what a screen shows
            assert await state == 5  # what is true
            await state.when(lambda value: value == 5)
            assert loop.time() == pytest.approx(10.0)
        assert computed == [0, 5]

    run_in_virtual_time(main())


def test_a_transient_error_is_shown_and_tried_again() -> None:
    async def main() -> None:
        attempts = 0

        async def compute() -> int:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise ConnectionError
            if attempts == 3:
                raise asyncio.CancelledError
            return attempts

        counts: list[int] = []

        class Counting(FixedDelayer):
            async def delay(self, retry_count: int) -> None:
                counts.append(retry_count)
                await super().delay(retry_count)

        async with ComputedState(compute, update_delayer=Counting()) as state:
            async for computed in state.changes():
                if computed.error is None:
                    break
                assert isinstance(state.error, ConnectionError)
            assert state.value == 4
            assert counts == [1, 2, 3]
            assert asyncio.get_running_loop().time() == pytest.approx(1 + 1 + 1 + 1 + 1)

    run_in_virtual_time(main())


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
    await state.close()
    await graph.close()
