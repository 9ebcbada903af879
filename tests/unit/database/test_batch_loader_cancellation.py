"""Callers that leave a batch: what becomes of their keys, of the others, and of the call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fusion_cluster import App, BatchLoader, ComputeService, UsageError, compute_method, gather
from tests.waiting import until


class Held:
    """Looks up squares when it is let; notes what it was asked for and how its calls ended."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.ended: list[str] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.cleanup = asyncio.Event()
        self.cleanup.set()

    async def __call__(self, numbers: Sequence[int]) -> dict[int, int]:
        self.asked.append(list(numbers))
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            await self.cleanup.wait()
            self.ended.append("cancelled")
            raise
        self.ended.append("answered")
        return {number: number * number for number in numbers}


@pytest.fixture
async def held() -> Held:
    return Held()


def start(loader: BatchLoader[int, int | None], *numbers: int) -> list[asyncio.Task[int | None]]:
    return [asyncio.create_task(loader.load(number)) for number in numbers]


async def cancel(*tasks: asyncio.Task[int | None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


# -- before the batch has left -----------------------------------------------------------------------------------------
async def test_a_caller_that_is_cancelled_takes_its_keys_along_and_no_others(held: Held) -> None:
    loader = BatchLoader(held)
    held.gate.set()
    first, second, same, third = start(loader, 1, 2, 2, 3)
    many = asyncio.create_task(loader.load_many([3, 4]))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    many.cancel()
    assert list(await asyncio.gather(same, third)) == [4, 9]
    assert held.asked == [[2, 3]]
    assert first.cancelled()
    assert second.cancelled()
    assert many.cancelled()


async def test_one_who_is_cancelled_in_the_turn_of_the_departure_is_left_out(held: Held) -> None:
    loader = BatchLoader(held, max_batch_size=3)
    held.gate.set()
    first, second = start(loader, 1, 2)
    await asyncio.sleep(0)
    third = asyncio.create_task(loader.load(3))  # which fills the batch before the first knows of its end
    first.cancel()
    assert list(await asyncio.gather(second, third)) == [4, 9]
    assert held.asked == [[2, 3]]


async def test_when_all_are_cancelled_nothing_is_asked(held: Held) -> None:
    loader = BatchLoader(held)
    tasks = start(loader, 1, 2)
    await asyncio.sleep(0)
    await cancel(*tasks)
    held.gate.set()
    assert await loader.load(3) == 9
    assert held.asked == [[3]]


async def test_those_who_come_after_all_were_cancelled_are_answered(held: Held) -> None:
    loader = BatchLoader(held)
    held.gate.set()
    (first,) = start(loader, 1)
    await asyncio.sleep(0)
    first.cancel()
    assert await loader.load(2) == 4
    assert held.asked == [[2]]


# -- while the call is under way ---------------------------------------------------------------------------------------
async def test_half_of_the_callers_cancelled_the_others_are_answered(held: Held) -> None:
    loader = BatchLoader(held)
    tasks = start(loader, *range(1_000))
    await held.begun.wait()
    await cancel(*tasks[::2])
    held.gate.set()
    assert await asyncio.gather(*tasks[1::2]) == [number * number for number in range(1, 1_000, 2)]
    assert held.ended == ["answered"]


async def test_all_callers_cancelled_the_call_is_cancelled_and_has_ended_when_they_have(held: Held) -> None:
    loader = BatchLoader(held)
    held.cleanup.clear()
    first, last = start(loader, 1, 2)
    await held.begun.wait()
    await cancel(first)
    last.cancel()
    last.cancel()
    await asyncio.sleep(0)
    last.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not last.done(), "the call still cleans up"
    held.cleanup.set()
    await asyncio.wait([last])
    assert last.cancelled()
    assert held.ended == ["cancelled"]


async def test_a_timeout_of_one_caller_is_no_matter_of_the_others(held: Held) -> None:
    loader = BatchLoader(held)
    patient = asyncio.create_task(loader.load(1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loader.load(1), 0.01)
    held.gate.set()
    assert await patient == 1
    assert held.asked == [[1]]


async def test_a_newcomer_does_not_join_a_call_that_is_being_cancelled(held: Held) -> None:
    loader = BatchLoader(held)
    held.cleanup.clear()
    (first,) = start(loader, 1)
    await held.begun.wait()
    first.cancel()
    (newcomer,) = start(loader, 1)
    await until(lambda: len(held.asked) == 2)
    held.gate.set()
    assert await newcomer == 1
    held.cleanup.set()
    await asyncio.wait([first])
    assert held.ended == ["answered", "cancelled"]


async def test_one_who_waits_for_several_batches_leaves_them_all(held: Held) -> None:
    loader = BatchLoader(held, max_batch_size=2)
    many = asyncio.create_task(loader.load_many([1, 2, 3, 4, 5]))
    await until(lambda: len(held.asked) == 3)
    many.cancel()
    await asyncio.wait([many])
    assert many.cancelled()
    assert held.ended == ["cancelled"] * 3


async def test_an_error_in_one_batch_ends_the_wait_for_the_others() -> None:
    ended: list[int] = []

    async def load_many(numbers: Sequence[int]) -> dict[int, int]:
        if 1 in numbers:
            raise LookupError("one")
        try:
            await asyncio.Event().wait()
        finally:
            ended.extend(numbers)
        return {}

    with pytest.raises(LookupError, match="one"):
        await BatchLoader(load_many, max_batch_size=1).load_many([1, 2, 3])
    assert sorted(ended) == [2, 3]


async def test_a_call_that_somebody_else_cancels_leaves_nobody_waiting(held: Held) -> None:
    loader = BatchLoader(held)
    tasks = start(loader, 1, 2)
    await held.begun.wait()
    (call,) = asyncio.all_tasks() - {*tasks, asyncio.current_task()}
    call.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


def test_a_loop_that_shuts_down_in_the_middle_leaves_nothing_behind() -> None:
    held: list[Held] = []

    async def leave_at_once() -> None:
        held.append(Held())
        tasks = start(BatchLoader(held[0]), 1, 2)
        await held[0].begun.wait()
        assert not any(task.done() for task in tasks)

    asyncio.run(leave_at_once())
    assert held[0].ended == ["cancelled"]


# -- computations ------------------------------------------------------------------------------------------------------
class Squares(ComputeService):
    def __init__(self) -> None:
        self.held = Held()
        self.loader = BatchLoader(self.held)

    @compute_method
    async def square(self, number: int) -> int | None:
        return await self.loader.load(number)


async def test_a_computation_that_nobody_waits_for_leaves_the_batch() -> None:
    async with App("squares", [Squares]).local() as host:
        squares = host.service(Squares)
        both = asyncio.create_task(gather(squares.square(1), squares.square(2)))
        alone = asyncio.create_task(gather(squares.square(2), squares.square(3)))
        await squares.held.begun.wait()
        both.cancel()
        await asyncio.wait([both])
        squares.held.gate.set()
        assert list(await alone) == [4, 9]
        assert squares.held.asked == [[1, 2, 3]]
        assert squares.square.peek(1) is None
        host.graph.validate()


async def test_a_host_that_closes_ends_the_calls_of_its_computations() -> None:
    async with App("squares", [Squares]).local() as host:
        squares = host.service(Squares)
        reading = asyncio.create_task(gather(squares.square(1), squares.square(2)))
        await squares.held.begun.wait()
    assert squares.held.ended == ["cancelled"]
    with pytest.raises(UsageError, match="closed"):
        await reading
