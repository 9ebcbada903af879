"""Batches without a database: what is asked together, when it leaves, and who is told what."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Sequence
from typing import NoReturn, assert_type

import pytest
import uvloop

from fusion_cluster import App, BatchLoader, ComputeService, UsageError, compute_method, gather
from fusion_cluster.graph import current_computation


class Names:
    """Looks up names by number, and notes what it was asked for."""

    def __init__(self, **names: str) -> None:
        self.names = {int(number[1:]): name for number, name in names.items()}
        self.asked: list[list[int]] = []

    async def __call__(self, numbers: Sequence[int]) -> dict[int, str]:
        self.asked.append(list(numbers))
        return {number: self.names[number] for number in numbers if number in self.names}


@pytest.fixture
def names() -> Names:
    return Names(n1="ann", n2="bob", n3="cy")


# -- one turn, one call ------------------------------------------------------------------------------------------------
async def test_the_look_ups_of_one_turn_are_one_call_which_asks_for_each_key_once(names: Names) -> None:
    loader = BatchLoader(names)
    found = await asyncio.gather(loader.load(2), loader.load(1), loader.load(2), loader.load_many([3, 1, 3]))
    assert list(found) == ["bob", "ann", "bob", ["cy", "ann", "cy"]]
    assert names.asked == [[2, 1, 3]]


async def test_what_becomes_ready_in_the_turn_of_the_first_look_up_joins_it(names: Names) -> None:
    loader = BatchLoader(names)
    later: list[asyncio.Task[str | None]] = []
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(loader.load(1))
    loop.call_soon(lambda: later.append(asyncio.create_task(loader.load(2))))  # its first step: in the next turn
    assert await first == "ann"
    assert await later[0] == "bob"
    assert names.asked == [[1, 2]]


async def test_a_look_up_in_a_later_turn_is_made_again(names: Names) -> None:
    loader = BatchLoader(names)
    assert await loader.load(1) == "ann"
    names.names[1] = "anna"
    assert await loader.load(1) == "anna"
    assert names.asked == [[1], [1]]


async def test_a_look_up_never_joins_a_call_that_has_begun() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    stock = {"tea": 5}

    async def count(keys: Sequence[str]) -> dict[str, int]:
        seen = dict(stock)
        begun.set()
        await gate.wait()
        return seen

    loader = BatchLoader(count)
    early = asyncio.create_task(loader.load("tea"))
    await begun.wait()
    stock["tea"] = 4
    late = asyncio.create_task(loader.load("tea"))
    gate.set()
    assert (await early, await late) == (5, 4)


async def test_a_full_batch_leaves_at_once_and_the_rest_makes_others(names: Names) -> None:
    bounded, unbounded = BatchLoader(names, max_batch_size=2), BatchLoader(names)
    full = asyncio.create_task(bounded.load_many([1, 2, 3, 4, 5, 1]))
    await asyncio.sleep(0)  # it asks
    waiting = asyncio.create_task(unbounded.load_many([9]))
    await asyncio.sleep(0)  # what is full has left
    assert names.asked == [[1, 2], [3, 4]]
    assert await full == ["ann", "bob", "cy", None, None, "ann"]
    assert await waiting == [None]
    assert sorted(map(tuple, names.asked)) == [(1, 2), (3, 4), (5,), (9,)]


async def test_a_key_that_is_in_the_batch_already_fills_no_place(names: Names) -> None:
    loader = BatchLoader(names, max_batch_size=3)
    await asyncio.gather(loader.load_many([1, 2]), loader.load_many([2, 1]), loader.load_many([2, 3]))
    assert names.asked == [[1, 2, 3]]


async def test_nothing_asked_is_no_call(names: Names) -> None:
    assert await BatchLoader(names).load_many([]) == []
    assert names.asked == []


# -- answers -----------------------------------------------------------------------------------------------------------
async def test_a_key_without_a_value_gives_none_or_what_missing_says(names: Names) -> None:
    def unknown(number: int) -> NoReturn:
        raise LookupError(f"nobody is number {number}")

    assert_type(await BatchLoader(names).load(4), str | None)
    assert await BatchLoader(names).load(4) is None
    assert_type(await BatchLoader(names, missing=str).load(4), str)
    assert await BatchLoader(names, missing=lambda number: f"number {number}").load_many([4, 1]) == ["number 4", "ann"]
    strict = BatchLoader(names, missing=unknown)
    found = await asyncio.gather(strict.load(1), strict.load(4), return_exceptions=True)
    assert found[0] == "ann"
    assert isinstance(found[1], LookupError)


async def test_answers_may_be_a_sequence_in_the_order_of_the_keys() -> None:
    async def squares(numbers: Sequence[int]) -> list[int | None]:
        return [number * number if number >= 0 else None for number in numbers]

    loader = BatchLoader(squares)
    assert_type(await loader.load(1), int | None)
    assert await loader.load_many([3, -1, 0, 3]) == [9, None, 0, 9]
    assert_type(await BatchLoader(squares, missing=lambda number: -1).load(1), int)
    assert await BatchLoader(squares, missing=lambda number: -1).load_many([-1, 2]) == [-1, 4]


@pytest.mark.parametrize("answers", [["ann"], [], {"ann", "bob"}, None])
async def test_answers_that_cannot_be_told_apart_are_refused(answers: object) -> None:
    async def load_many(numbers: Sequence[int]) -> object:
        return answers

    with pytest.raises(UsageError, match="answered with"):
        await BatchLoader(load_many).load_many([1, 2])  # type: ignore[arg-type]


async def test_an_error_goes_to_every_waiter_and_is_not_kept(names: Names) -> None:
    failures = [OSError("away")]

    async def load_many(numbers: Sequence[int]) -> dict[int, str]:
        if failures:
            raise failures.pop()
        return await names(numbers)

    loader = BatchLoader(load_many)
    found = await asyncio.gather(*(loader.load(number) for number in (1, 2, 1)), return_exceptions=True)
    assert [str(error) for error in found] == ["away"] * 3
    assert await loader.load(1) == "ann"


async def test_an_error_in_place_of_a_value_goes_to_those_who_asked_for_that_key() -> None:
    async def load_many(numbers: Sequence[int]) -> dict[int, str | Exception]:
        return {number: "fine" if number else ValueError("no number") for number in numbers}

    loader = BatchLoader(load_many)
    found = await asyncio.gather(loader.load(1), loader.load(0), loader.load_many([1, 0]), return_exceptions=True)
    assert_type(await loader.load(1), str | None)
    assert [type(result) for result in found] == [str, ValueError, ValueError]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_keys_is_refused(names: Names, size: int) -> None:
    with pytest.raises(UsageError, match="max_batch_size must be a whole number") as caught:
        BatchLoader(names, max_batch_size=size)
    assert caught.value.field == "max_batch_size"


async def test_a_key_without_a_hash_is_refused_and_hurts_nobody(names: Names) -> None:
    loader = BatchLoader(names)
    found = await asyncio.gather(loader.load(1), loader.load([1]), return_exceptions=True)  # type: ignore[arg-type]
    assert found[0] == "ann"
    assert isinstance(found[1], UsageError)
    assert "unhashable" in str(found[1])


# -- computations ------------------------------------------------------------------------------------------------------
class People(ComputeService):
    def __init__(self) -> None:
        self.source = Names(**{f"n{number}": f"name {number}" for number in range(1_000)})
        self.loader = BatchLoader(self.source)

    @compute_method
    async def name(self, number: int) -> str | None:
        return await self.loader.load(number)

    @compute_method
    async def greeting(self, number: int) -> str:
        return f"hello {await self.name(number)}"

    @compute_method
    async def greetings(self, count: int) -> list[str]:
        return await gather(*(self.greeting(number) for number in range(count)))


async def test_computations_that_look_up_at_the_same_time_are_one_call() -> None:
    async with App("people", [People]).local() as host:
        people = host.service(People)
        assert len(await people.greetings(1_000)) == 1_000
        assert people.source.asked == [list(range(1_000))]
        people.name.invalidate(7)
        people.name.invalidate(9)
        await gather(people.greetings(1_000), people.name(9))
        assert sorted(people.source.asked[-1]) == [7, 9]
        host.graph.validate()


async def test_computations_of_different_depth_and_plain_callers_share_a_call() -> None:
    async with App("people", [People]).local() as host:
        people = host.service(People)
        await gather(people.greeting(1), people.name(2), people.loader.load(3))
        await gather(people.loader.load(13), people.name(12), people.greeting(11))
    assert [sorted(asked) for asked in people.source.asked] == [[1, 2, 3], [11, 12, 13]]


async def test_a_batch_is_part_of_nobodys_computation_or_context() -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="nobody's")
    seen: list[object] = []

    class Reader(ComputeService):
        def __init__(self) -> None:
            self.loader = BatchLoader(self.load_many)

        async def load_many(self, keys: Sequence[str]) -> dict[str, str]:
            seen.extend([mark.get(), current_computation.get()])
            return {key: await self.setting(key) for key in keys}

        @compute_method
        async def setting(self, key: str) -> str:
            return key.upper()

        @compute_method
        async def shown(self, key: str) -> str | None:
            mark.set(key)
            return await self.loader.load(key)

    async with App("reader", [Reader]).local() as host:
        reader = host.service(Reader)
        first, second = reader.shown("a"), reader.shown("b")
        assert list(await gather(first, second)) == ["A", "B"]
        assert seen == ["nobody's", None]
        reader.setting.invalidate("a")
        reader.setting.invalidate("b")
        assert first.is_consistent
        assert second.is_consistent
        host.graph.validate()


# -- event loops -------------------------------------------------------------------------------------------------------
def test_a_loader_serves_one_loop_after_the_other_whatever_they_left_open(names: Names) -> None:
    loader = BatchLoader(names)

    async def leave_in_the_middle() -> None:
        task = asyncio.create_task(loader.load(1))
        await asyncio.sleep(0)
        assert not task.done()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_in_the_middle())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.close()
    assert names.asked == []
    old_loop = weakref.ref(loop)
    del loop, task
    for _ in range(2):
        assert asyncio.run(loader.load_many([1, 2])) == ["ann", "bob"]
    assert names.asked == [[1, 2]] * 2
    gc.collect()
    assert old_loop() is None


def test_loops_in_several_threads_have_batches_of_their_own(names: Names) -> None:
    loader = BatchLoader(names)
    found: list[list[str | None]] = []

    async def look_up() -> None:
        found.extend([list(await asyncio.gather(loader.load(1), loader.load(2))) for _ in range(50)])

    threads = [threading.Thread(target=lambda: asyncio.run(look_up())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["ann", "bob"]] * 200
    assert names.asked == [[1, 2]] * 200


def test_batches_are_the_same_on_uvloop(names: Names) -> None:
    async def look_up() -> None:
        loader = BatchLoader(names)
        assert await asyncio.gather(*(loader.load(number) for number in (1, 2, 3))) == ["ann", "bob", "cy"]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(look_up())
    assert names.asked == [[1, 2, 3]]


async def test_nothing_is_kept_of_a_batch_that_is_over() -> None:
    class Value:
        pass

    values: list[weakref.ref[Value]] = []

    async def load_many(keys: Sequence[int]) -> dict[int, Value]:
        found = {key: Value() for key in keys}
        values.extend(map(weakref.ref, found.values()))
        return found

    loader = BatchLoader(load_many)
    assert len(await asyncio.gather(*(loader.load(key) for key in range(10)))) == 10
    await asyncio.sleep(0)
    gc.collect()
    assert [value() for value in values] == [None] * 10
