"""`update_now`, `invalidate` and another delayer: what a state is told while it is shown."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method
from fusion_cluster.state import ComputedState, FixedDelayer, MutableState
from fusion_cluster.testing import run_in_virtual_time


def test_update_now_ends_the_delay_in_progress() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            return source.value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(60.0)) as state:
            await state.when(lambda value: value == 0)
            source.set(1)
            await asyncio.sleep(5)
            state.update_now()
            state.update_now()
            await asyncio.sleep(0)
            state.update_now()
            await state.when(lambda value: value == 1)
            assert loop.time() == 5.0
            source.set(2)
            state.update_now()  # before the delay has begun
            await state.when(lambda value: value == 2)
            assert loop.time() == 5.0

    run_in_virtual_time(main())


def test_update_now_on_a_value_that_is_up_to_date_shortens_no_later_delay() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            return source.value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(60.0)) as state:
            state.update_now()  # the first computation waits for nothing anyway
            await state.when(lambda value: value == 0)
            state.update_now()
            await asyncio.sleep(1)
            source.set(1)
            await state.when(lambda value: value == 1)
            assert loop.time() == pytest.approx(61.0)

    run_in_virtual_time(main())


def test_update_now_during_a_computation_that_is_up_to_date_shortens_no_later_delay() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            value = source.value
            await asyncio.sleep(2)
            return value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(60.0)) as state:
            await asyncio.sleep(1)
            state.update_now()
            await state.when(lambda value: value == 0)
            source.set(1)
            await state.when(lambda value: value == 1)
            assert loop.time() == pytest.approx(2 + 60 + 2)

    run_in_virtual_time(main())


def test_update_now_hurries_one_update_and_not_those_that_follow() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            value = source.value
            await asyncio.sleep(2)
            return value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(60.0)) as state:
            await state.when(lambda value: value == 0)
            source.set(1)
            await asyncio.sleep(1)
            state.update_now()
            await asyncio.sleep(1)
            source.set(2)  # while it computes
            await state.when(lambda value: value == 1)
            assert loop.time() == pytest.approx(2 + 1 + 2)
            await state.when(lambda value: value == 2)
            assert loop.time() == pytest.approx(5 + 60 + 2)

    run_in_virtual_time(main())


def test_update_now_during_a_computation_that_is_out_of_date_already_lets_the_next_one_follow_at_once() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            value = source.value
            await asyncio.sleep(2)
            return value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(60.0)) as state:
            await asyncio.sleep(1)
            source.set(1)
            state.update_now()
            await state.when(lambda value: value == 1)
            assert loop.time() == pytest.approx(4.0)

    run_in_virtual_time(main())


def test_update_now_tries_again_at_once_after_a_transient_error() -> None:
    async def main() -> None:
        attempts = 0

        async def compute() -> int:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise ConnectionError
            return attempts

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(retry_delay_s=60.0)) as state:
            await state.snapshot.when_updated()
            await asyncio.sleep(0)
            state.update_now()
            await state.snapshot.when_updated()
            assert state.value == 2
            assert loop.time() == 0.0

    run_in_virtual_time(main())


def test_a_state_can_be_invalidated_by_hand_with_all_that_depends_on_it() -> None:
    class Labels(ComputeService):
        @compute_method
        async def label(self) -> str:
            return f"<{await state}>"

    runs = 0

    async def compute() -> int:
        nonlocal runs
        runs += 1
        return runs

    state = ComputedState(compute, update_delayer=FixedDelayer(10.0))

    async def main() -> None:
        graph, labels = Graph(), Labels()
        attach(labels, GraphHosting(graph))
        async with state:
            await state.when(lambda value: value == 1)
            assert await labels.label() == "<1>"
            state.invalidate()
            assert labels.label.peek() is None
            await asyncio.sleep(9)
            assert state.value == 1
            state.invalidate()
            await state.when(lambda value: value == 2)
            assert asyncio.get_running_loop().time() == pytest.approx(10.0)
        await graph.close()

    run_in_virtual_time(main())


def test_another_delayer_counts_from_the_next_delay_on() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            return source.value

        loop = asyncio.get_running_loop()
        async with ComputedState(compute, update_delayer=FixedDelayer(10.0)) as state:
            assert state.update_delayer == FixedDelayer(10.0)
            await state.when(lambda value: value == 0)
            source.set(1)
            await asyncio.sleep(1)
            state.update_delayer = FixedDelayer(2.0)
            await state.when(lambda value: value == 1)
            assert loop.time() == pytest.approx(10.0)
            source.set(2)
            await state.when(lambda value: value == 2)
            assert loop.time() == pytest.approx(12.0)

    run_in_virtual_time(main())
