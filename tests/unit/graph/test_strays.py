"""What tasks and threads of a body read, that have a context of their own: refused, or a dependency; never lost."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, compute_method, gather, isolated
from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computing.strays import watch_tasks
from fusion_cluster.host import LocalHost

Read = Callable[[Any], Coroutine[Any, Any, Any]]


async def awaited(awaitable: Any) -> Any:
    return await awaitable


class Desk(ComputeService):
    def __init__(self) -> None:
        self.leaf_value = 1
        self.way: Read
        self.tasks: list[asyncio.Task[Any]] = []

    @compute_method
    async def leaf(self, number: int) -> int:
        return self.leaf_value

    @compute_method
    async def total(self, number: int) -> int:
        return int(await self.way(self))


# -- ways in which a body can read ---------------------------------------------------------------------------------
async def in_an_empty_context(desk: Desk) -> int:
    return await asyncio.create_task(awaited(desk.leaf(1)), context=contextvars.Context())


async def later_in_an_empty_context(desk: Desk) -> int:
    task = asyncio.create_task(awaited(desk.leaf(1)), context=contextvars.Context())
    await asyncio.sleep(0)
    return int(await task)


async def by_the_loop(desk: Desk) -> int:
    loop = asyncio.get_running_loop()
    return await loop.create_task(awaited(desk.leaf(1)), name="x", context=contextvars.Context())


async def in_a_group(desk: Desk) -> int:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(awaited(desk.leaf(1)), context=contextvars.Context())
    return int(task.result())


async def in_a_task_of_a_task(desk: Desk) -> int:
    async def outer() -> int:
        return await asyncio.create_task(awaited(desk.leaf(1)))

    return await asyncio.create_task(outer(), context=contextvars.Context())


async def gathered(desk: Desk) -> int:
    async def outer() -> int:
        first, _ = await gather(desk.leaf(1), desk.leaf(2))
        return first

    return await asyncio.create_task(outer(), context=contextvars.Context())


async def by_value(desk: Desk) -> int:
    async def outer() -> int:
        return desk.leaf(1).value

    return await asyncio.create_task(outer(), context=contextvars.Context())


async def in_the_executor(desk: Desk) -> int:
    return await asyncio.get_running_loop().run_in_executor(None, lambda: desk.leaf(1).value)


async def in_an_executor_of_ones_own(desk: Desk) -> int:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: desk.leaf(1).value)


async def through_the_executor_and_back(desk: Desk) -> int:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        None, lambda: asyncio.run_coroutine_threadsafe(awaited(desk.leaf(1)), loop).result()
    )


async def in_a_context_used_before(desk: Desk) -> int:
    context = contextvars.Context()
    await asyncio.create_task(asyncio.sleep(0), context=context)
    return await asyncio.create_task(awaited(desk.leaf(1)), context=context)


REFUSED: list[Read] = [
    in_an_empty_context,
    later_in_an_empty_context,
    by_the_loop,
    in_a_group,
    in_a_task_of_a_task,
    gathered,
    by_value,
    in_the_executor,
    in_an_executor_of_ones_own,
    through_the_executor_and_back,
    in_a_context_used_before,
]


async def in_a_task(desk: Desk) -> int:
    return await asyncio.create_task(awaited(desk.leaf(1)))


async def in_a_copied_context(desk: Desk) -> int:
    return await asyncio.create_task(awaited(desk.leaf(1)), context=contextvars.copy_context())


async def run_in_a_copy(desk: Desk) -> int:
    return await contextvars.copy_context().run(asyncio.ensure_future, awaited(desk.leaf(1)))


async def by_to_thread(desk: Desk) -> int:
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(awaited(desk.leaf(1)), loop).result())


@pytest.fixture(params=[True, False], ids=["strict", "not strict"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    async with App("desk", [Desk]).local(strict=request.param) as host:
        yield host.service(Desk)


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("way", REFUSED)
async def test_a_read_that_could_be_no_dependency_is_refused_by_name(desk: Desk, way: Read, is_there: bool) -> None:
    if is_there or "value" in way.__name__ or "executor" in way.__name__:
        await desk.leaf(1)
    desk.way = way
    with pytest.raises((UsageError, ExceptionGroup)) as caught:
        await desk.total(7)
    error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert isinstance(error, UsageError)
    assert "Desk.total(7) has made, in a context of its own, reads" in error.message
    assert "Desk.total would not be told" in error.message


@pytest.mark.parametrize("way", [in_a_task, in_a_copied_context, run_in_a_copy, by_to_thread])
async def test_a_read_in_a_copy_of_the_bodys_context_is_a_dependency(desk: Desk, way: Read) -> None:
    desk.way = way
    computed = desk.total(7)
    assert await computed == 1
    desk.leaf_value = 2
    desk.leaf.invalidate(1)
    assert not computed.is_consistent
    assert await desk.total(7) == 2


async def test_under_isolated_it_is_no_dependency_because_somebody_said_so(desk: Desk) -> None:
    async def way(desk: Desk) -> int:
        with isolated():
            task = asyncio.create_task(awaited(desk.leaf(1)), context=contextvars.Context())
        return int(await task)

    desk.way = way
    assert await desk.total(7) == 1


async def test_a_task_that_outlives_the_body_reads_as_anybody(desk: Desk) -> None:
    go = asyncio.Event()

    async def later() -> int:
        await go.wait()
        return await desk.leaf(1)

    async def way(desk: Desk) -> int:
        desk.tasks = [
            asyncio.create_task(later(), context=contextvars.Context()),
            asyncio.create_task(later()),
        ]
        return 5

    desk.way = way
    computed = desk.total(7)
    assert await computed == 5
    go.set()
    assert [await task for task in desk.tasks] == [1, 1]
    desk.leaf.invalidate(1)
    assert computed.is_consistent


async def test_a_task_that_reads_nothing_may_have_any_context(desk: Desk) -> None:
    async def way(desk: Desk) -> int:
        loop = asyncio.get_running_loop()
        await asyncio.create_task(asyncio.sleep(0), context=contextvars.Context())
        return 3 + await loop.run_in_executor(None, functools.partial(int, "4"))

    desk.way = way
    assert await desk.total(7) == 7


async def test_outside_of_bodies_contexts_are_left_alone(desk: Desk) -> None:
    context = contextvars.Context()
    assert await asyncio.create_task(awaited(desk.leaf(1)), context=context) == 1
    assert await asyncio.get_running_loop().run_in_executor(None, lambda: len(contextvars.copy_context())) == 0


async def test_a_thread_of_the_body_is_told_whose_thread_is_needed(desk: Desk) -> None:
    told: list[Exception] = []

    def work() -> None:
        try:
            asyncio.run(awaited(desk.leaf(9)))
        except UsageError as error:
            told.append(error)

    async def way(desk: Desk) -> int:
        thread = threading.Thread(target=work, name="helper")
        thread.start()
        thread.join()
        return 1

    desk.way = way
    assert await desk.total(7) == 1
    assert "Desk.leaf(9): the host of the app 'desk' belongs to another thread than helper" in str(told[0])


# -- other loops and threads -------------------------------------------------------------------------------------------
@pytest.fixture
def elsewhere() -> Any:
    """A service whose host belongs to a loop that does not run now, in this thread."""
    loop = asyncio.new_event_loop()
    opening = App("desk", [Desk]).local(strict=True)
    host: LocalHost = loop.run_until_complete(opening.__aenter__())
    desk = host.service(Desk)
    loop.run_until_complete(awaited(desk.leaf(1)))
    yield desk
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()


@pytest.mark.parametrize("number", [1, 2])
def test_another_loop_is_refused_by_name(elsewhere: Desk, number: int) -> None:
    with pytest.raises(
        UsageError, match=rf"^Desk.leaf\({number}\): the host of the app 'desk' belongs to another event loop"
    ):
        asyncio.run(awaited(elsewhere.leaf(number)))


@pytest.mark.parametrize("number", [1, 2])
def test_another_thread_is_refused_by_name(elsewhere: Desk, number: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        told = executor.submit(lambda: asyncio.run(awaited(elsewhere.leaf(number)))).exception()
    assert isinstance(told, UsageError)
    assert told.message.startswith(f"Desk.leaf({number}): the host of the app 'desk' belongs to another thread than ")


def test_a_loop_is_not_kept_alive_by_its_watch() -> None:
    gc.collect()
    gc.disable()
    try:
        loop = asyncio.new_event_loop()
        watch_tasks(loop)
        watch_tasks(loop)
        loop.run_until_complete(loop.create_task(asyncio.sleep(0)))
        loop.close()
        kept = weakref.ref(loop)
        del loop
        assert kept() is None
    finally:
        gc.enable()
