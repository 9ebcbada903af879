"""Bodies begin at once, and all the same in a task of their own: what asyncio gives to tasks is as ever."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather
from fusion_cluster.graph.computing.eager import MAX_DEPTH

Main = Callable[["Bodies", Graph], Coroutine[Any, Any, None]]

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def new_debugging_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def new_loop_with_task_factory() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
    return loop


def new_loop_with_tasks_in_python() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    python_task: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    loop.set_task_factory(lambda loop, coroutine, **options: python_task(coroutine, loop=loop, **options))
    return loop


LOOPS = [asyncio.new_event_loop, new_debugging_loop, new_loop_with_task_factory, new_loop_with_tasks_in_python]
if importlib.util.find_spec("uvloop") is not None:
    LOOPS.append(new_uvloop)


@pytest.fixture(params=LOOPS, ids=lambda new_loop: new_loop.__name__)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a test in one kind of event loop after the other."""

    def run_main(main: Main) -> None:
        async def within() -> None:
            graph, bodies = Graph(), Bodies()
            attach(bodies, GraphHosting(graph))
            await main(bodies, graph)
            graph.validate()
            await graph.close()
            assert graph.stats.nodes == 0

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(within())

    return run_main


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


class Bodies(ComputeService):
    """Bodies that look around in their first step and after it. `seen` is what they saw."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.gate: asyncio.Event | None = None
        self.first_step: Callable[[], object] = lambda: None

    @compute_method
    async def at_once(self, number: int) -> int:
        self.seen.append(asyncio.current_task())
        self.first_step()
        return number

    @compute_method
    async def with_a_wait(self, number: int) -> int:
        self.seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        self.seen.append(asyncio.current_task())
        return number

    @compute_method
    async def held(self, number: int) -> int:
        self.first_step()
        assert self.gate is not None
        await self.gate.wait()
        return number

    @compute_method
    async def in_time(self, limit_s: float) -> str:
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.Event().wait()
        except TimeoutError:
            return "too late"
        return "in time"

    @compute_method
    async def in_a_group(self, number: int) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(value_of(self.with_a_wait(part))) for part in range(number)]
        return sum(task.result() for task in tasks)

    @compute_method
    async def in_a_group_that_fails(self, number: int) -> int:
        async with asyncio.TaskGroup() as group:
            group.create_task(value_of(self.with_a_wait(number)))
            group.create_task(value_of(self.failing("later")))
        return number

    @compute_method
    async def of_tenant(self, number: int) -> str:
        before = tenant.get()
        tenant.set("somebody else")
        await asyncio.sleep(0)
        assert tenant.get() == "somebody else"
        return before

    @compute_method
    async def of_tenant_at_once(self, number: int) -> str:
        before = tenant.get()
        tenant.set("somebody else")
        return before

    @compute_method
    async def failing(self, when: str) -> int:
        if when == "later":
            await asyncio.sleep(0)
        raise LookupError(when)

    @compute_method
    async def nested(self, depth: int) -> int:
        self.seen.append(depth)
        return 1 + await self.nested(depth - 1) if depth else 0

    @compute_method
    async def total(self, numbers: tuple[int, ...]) -> int:
        return sum(await gather(*(self.with_a_wait(number) for number in numbers)))


def test_a_body_that_need_not_wait_costs_no_turn_of_the_loop() -> None:
    async def main() -> None:
        graph, bodies = Graph(), Bodies()
        attach(bodies, GraphHosting(graph))
        turns: list[int] = []
        asyncio.get_running_loop().call_soon(turns.append, 1)
        assert await bodies.at_once(1) == 1
        assert await bodies.nested(MAX_DEPTH - 1) == MAX_DEPTH - 1
        assert not turns
        await graph.close()

    asyncio.run(main())


def test_a_body_has_one_task_of_its_own_from_its_first_line_on(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        caller = asyncio.current_task()
        for number, method in enumerate((bodies.at_once, bodies.with_a_wait)):
            await method(number)
            assert asyncio.current_task() is caller
        at_once, first, second = bodies.seen
        assert asyncio.isfuture(at_once)
        assert first is second
        assert len({caller, at_once, first}) == 3
        assert first.get_name() == "Bodies.with_a_wait"
        assert first.done()

    run(main)


def test_the_task_of_a_caller_is_the_current_one_again_when_the_first_step_is_over(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        bodies.gate = asyncio.Event()
        caller = asyncio.current_task()

        async def read() -> int:
            reader = asyncio.current_task()
            assert reader is not caller
            value = await bodies.held(1)
            assert asyncio.current_task() is reader
            return value

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        assert asyncio.current_task() is caller
        bodies.gate.set()
        assert await task == 1

    run(main)


def test_timeouts_hold_in_the_first_step_and_after_it(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        assert await bodies.in_time(0.0) == "too late"
        assert await bodies.in_time(0.001) == "too late"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await bodies.in_time(100.0)
        assert bodies.in_time.peek(100.0) is None

    run(main)


def test_task_groups_work_from_the_first_line_on(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        assert await bodies.in_a_group(5) == 10
        await bodies.with_a_wait.invalidate(3)
        assert bodies.in_a_group.peek(5) is None  # what its tasks have read are dependencies
        with pytest.raises(ExceptionGroup):
            await bodies.in_a_group_that_fails(9)

    run(main)


def test_a_body_sees_the_context_of_its_caller_and_leaves_nothing_in_it(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        tenant.set("me")
        for method in (bodies.of_tenant, bodies.of_tenant_at_once):
            assert await method(1) == "me"
            assert tenant.get() == "me"

    run(main)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_an_error_is_the_same_in_the_first_step_and_later(when: str, run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match=when) as caught:
                await bodies.failing(when)
            names = [entry.name for entry in caught.traceback]
            assert names[-1] == "failing"
            assert "_run" not in names  # the library's own frames do not hide it
        assert graph.stats.computations == 1

    run(main)


def test_a_body_that_cancels_its_own_task_in_the_first_step_is_cancelled(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        bodies.gate = asyncio.Event()
        bodies.first_step = lambda: running_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await bodies.held(1)
        assert running_task().cancelling() == 0
        bodies.first_step = lambda: None
        bodies.gate.set()
        assert await bodies.held(1) == 1

    run(main)


def test_a_body_that_raises_cancelled_in_the_first_step_caches_nothing(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        def leave() -> None:
            raise asyncio.CancelledError

        bodies.first_step = leave
        with pytest.raises(asyncio.CancelledError):
            await bodies.at_once(1)
        bodies.first_step = lambda: None
        assert await bodies.at_once(1) == 1

    run(main)


def test_a_first_step_that_cancels_its_caller_ends_both(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        bodies.gate = asyncio.Event()
        task = asyncio.create_task(value_of(bodies.held(1)))
        bodies.first_step = task.cancel
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert bodies.held.peek(1) is None
        assert graph.stats.nodes == 0

    run(main)


def test_a_first_step_that_invalidates_its_own_computed_gives_its_value_once(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        bodies.first_step = lambda: bodies.at_once.invalidate(1)
        computed = bodies.at_once(1)
        assert await computed == 1
        assert not computed.is_consistent
        bodies.first_step = lambda: None
        assert await bodies.at_once(1) == 1
        assert bodies.at_once.peek(1) is not None

    run(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_in_the_first_step_reaches_the_caller_and_caches_nothing(error: type[BaseException]) -> None:
    def on_signal(*_: object) -> None:
        raise error

    async def main() -> None:
        graph, bodies = Graph(), Bodies()
        attach(bodies, GraphHosting(graph))
        bodies.first_step = lambda: signal.raise_signal(signal.SIGUSR1)
        caller = asyncio.current_task()
        with pytest.raises(error):
            await bodies.at_once(1)
        assert asyncio.current_task() is caller
        bodies.first_step = lambda: None
        assert await bodies.at_once(1) == 1
        graph.validate()
        await graph.close()

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGUSR1, before)


LIMIT = 400


@pytest.fixture
def low_recursion_limit() -> Iterator[None]:
    """Event loops in debug mode take a time that grows with the square of the depth."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(LIMIT)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("low_recursion_limit")
@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 5 * MAX_DEPTH, LIMIT + 100])
def test_bodies_within_bodies_begin_at_once_only_so_deep_that_the_stack_is_safe(
    depth: int, run: Callable[[Main], None]
) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        assert await bodies.nested(depth) == depth
        assert bodies.seen == list(range(depth, -1, -1))
        await bodies.nested.invalidate(0)
        assert graph.stats.nodes == 0
        assert await bodies.nested(depth) == depth

    run(main)


def test_a_computation_can_be_started_from_a_callback_that_is_no_task(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def start() -> None:
            assert asyncio.current_task() is None
            reading = value_of(bodies.with_a_wait(1))
            waits_for = reading.send(None)
            assert asyncio.current_task() is None
            bodies.at_once(2).join(lambda computed: done.set_result([waits_for, reading, computed.value]))

        asyncio.get_running_loop().call_soon(start)
        waits_for, reading, value = await done
        assert value == 2
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waits_for.done()
        with pytest.raises(StopIteration) as stopped:
            reading.send(None)
        assert stopped.value.value == 1

    run(main)


def test_tasks_made_in_a_first_step_begin_in_the_next_turn_as_ever(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        order: list[str] = []
        tasks: list[asyncio.Task[None]] = []

        async def note(word: str) -> None:
            order.append(word)

        def make() -> None:
            tasks.append(asyncio.create_task(note("task")))
            asyncio.get_running_loop().call_soon(order.append, "callback")
            order.append("body")

        bodies.first_step = make
        assert await bodies.at_once(1) == 1
        assert order[0] == "body"
        await tasks[0]
        await asyncio.sleep(0)
        assert order == ["body", "task", "callback"]

    run(main)


def test_many_that_gather_share_what_began_at_once(run: Callable[[Main], None]) -> None:
    async def main(bodies: Bodies, graph: Graph) -> None:
        totals = [bodies.total(tuple(range(start, start + 5))) for start in range(5)]
        assert await gather(*totals) == [10 + 5 * start for start in range(5)]
        assert graph.stats.computations == 5 + 9

    run(main)


def running_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
