"""A.3 to A.5: one computation per key, for whoever waits, for as long as somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, State, compute_method
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]


async def value_of(computed: Computed[int]) -> int:
    return await computed


async def turns(count: int = 3) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_thousand_concurrent_callers_of_one_key_cause_one_computation(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    assert await asyncio.gather(*(value_of(cells.cell("a")) for _ in range(1000))) == [1] * 1000
    assert cells.log == ["a"]
    assert graph.stats.computations == 1
    assert graph.stats.hits == 999


async def test_nothing_runs_before_the_first_await(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    computed = cells.cell("a")
    await turns()
    assert cells.log == []
    assert computed.state is State.COMPUTING
    assert not computed.has_output
    assert cells.cell.peek("a") is None
    assert await computed == 1
    assert cells.cell.peek("a") is computed
    assert computed.is_consistent


async def test_half_of_a_thousand_waiters_cancelled_leaves_the_others_their_value(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    tasks = [asyncio.create_task(value_of(cells.cell("a"))) for _ in range(1000)]
    await gate.entered.wait()
    for task in tasks[::2]:
        task.cancel()
    await turns()
    gate.open()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1::2] == [1] * 500
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert cells.log == ["a"]


async def test_all_waiters_cancelled_cancels_the_computation_and_caches_nothing(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    computed = cells.cell("a")
    tasks = [asyncio.create_task(value_of(computed)) for _ in range(100)]
    await gate.entered.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert computed.state is State.INVALIDATED
    assert not computed.has_output
    assert cells.cell.peek("a") is None
    assert graph.stats.nodes == 0
    assert await cells.cell("a") == 1
    assert cells.log == ["a", "a"]


async def test_a_newcomer_does_not_join_a_computation_that_is_being_cancelled(host: Host) -> None:
    class Slow(ComputeService):
        runs = 0

        @compute_method
        async def get(self) -> int:
            self.runs += 1
            run = self.runs
            started.set()
            try:
                await release.wait()
            finally:
                await cleaned.wait()
            return run

    started, release, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()
    service = host(Slow())
    task = asyncio.create_task(value_of(service.get()))
    await started.wait()
    task.cancel()
    await asyncio.wait({task})  # the waiter is gone, the body still cleans up
    release.set()
    newcomer = asyncio.create_task(value_of(service.get()))
    await turns()
    cleaned.set()
    assert await newcomer == 2


async def test_a_body_that_ignores_its_cancellation_caches_nothing(host: Host) -> None:
    class Stubborn(ComputeService):
        @compute_method
        async def get(self) -> int:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.set()
            return 1

    started, ended = asyncio.Event(), asyncio.Event()
    service = host(Stubborn())
    computed = service.get()
    task = asyncio.create_task(value_of(computed))
    await started.wait()
    task.cancel()
    await ended.wait()
    await turns()
    assert service.get.peek() is None
    assert not computed.has_output


async def test_a_computation_left_before_its_first_step_ends_cleanly(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    cells.cell("a").join(lambda _: None).leave()
    await turns()
    assert cells.log == []
    assert graph.stats.nodes == 0
    assert await cells.cell("a") == 1


async def test_a_waiter_cancelled_at_the_moment_of_completion_spoils_nothing(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    computed = cells.cell("a")
    tasks = [asyncio.create_task(value_of(computed)) for _ in range(2)]
    computed.join(lambda _: tasks[0].cancel())  # told in the same turn as the waiters are woken
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] == 1
    assert computed.is_consistent
    assert cells.log == ["a"]


async def test_a_caller_that_arrives_after_an_invalidation_starts_anew(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    early = asyncio.create_task(value_of(cells.cell("a")))
    await gate.entered.wait()  # it has read 1
    await cells.put("a", 2)
    late = asyncio.create_task(value_of(cells.cell("a")))
    await turns()
    gate.open()
    assert await late == 2
    assert await early == 1
    assert await cells.cell("a") == 2
    assert cells.log == ["a", "a"]


async def test_nor_does_it_join_a_dependent_of_the_outdated_computation(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    early = asyncio.create_task(value_of(cells.double("a")))
    await gate.entered.wait()  # double waits for a cell that has read 1
    await cells.put("a", 2)
    late = asyncio.create_task(value_of(cells.double("a")))
    await turns()
    gate.open()
    assert await late == 4
    assert await early == 2
    assert await cells.double("a") == 4
    assert sorted(cells.log) == ["2*a", "2*a", "a", "a"]


async def test_nor_one_whose_dependency_was_invalidated_after_it_returned(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("2*a")
    early = asyncio.create_task(value_of(cells.double("a")))
    await gate.entered.wait()  # double has read cell a
    await cells.put("a", 2)
    late = asyncio.create_task(value_of(cells.double("a")))
    await turns()
    gate.open()
    assert await late == 4
    assert await early == 2


async def test_nor_one_whose_dependency_was_invalidated_between_its_completion_and_its_return(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    late: list[asyncio.Task[int]] = []

    def on_completed(_: Computed[int]) -> None:  # the waiting `double` has been woken, and has not run yet
        cells.values["a"] = 2
        cells.cell("a").invalidate()
        late.append(asyncio.create_task(value_of(cells.double("a"))))

    early = asyncio.create_task(value_of(cells.double("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cells.cell("a").join(on_completed)
    assert await early == 2
    assert await late[0] == 4
    assert await cells.double("a") == 4


async def test_nor_one_that_has_begun_to_wait_for_an_outdated_computation(host: Host) -> None:
    class Holder(ComputeService):
        @compute_method
        async def get(self) -> int:
            runs.append("get")
            return await (handle if len(runs) == 1 else cells.cell("a"))

    runs: list[str] = []
    cells: Cells = host(Cells(a=1))
    holder: Holder = host(Holder())
    gate, handle = cells.gate("a"), cells.cell("a")
    handle.join(lambda _: None)
    await gate.entered.wait()
    await cells.put("a", 2)
    early = asyncio.create_task(value_of(holder.get()))
    await turns()
    late = asyncio.create_task(value_of(holder.get()))
    await turns()
    gate.open()
    assert await late == 2
    assert await early == 2  # nobody begins to wait for what is known to be out of date


async def test_a_handle_invalidated_before_its_first_await_gives_the_current_value(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    handle = cells.cell("a")
    await cells.put("a", 2)
    assert handle.state is State.INVALIDATED
    assert await handle == 2
    assert handle.value == 2
    assert handle.version == cells.cell("a").version
    assert cells.log == ["a"]


async def test_a_handle_of_a_cancelled_computation_gives_the_current_value(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    handle = cells.cell("a")
    task = asyncio.create_task(value_of(handle))
    await gate.entered.wait()
    task.cancel()
    await asyncio.wait({task})
    assert await handle == 1


async def test_a_computation_outlives_the_caller_that_started_it(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    first = asyncio.create_task(value_of(cells.cell("a")))
    await gate.entered.wait()
    second = asyncio.create_task(value_of(cells.cell("a")))
    await turns()
    first.cancel()
    await asyncio.wait({first})
    gate.open()
    assert await second == 1
    assert cells.log == ["a"]


async def test_racing_invalidations_and_recomputations_leave_one_consistent_computed_the_newest(
    host: Host, graph: Graph
) -> None:
    cells: Cells = host(Cells(a=0))

    async def write() -> None:
        for value in range(1, 200):
            await cells.put("a", value)
            if value % 3 == 0:
                await asyncio.sleep(0)

    async def read() -> None:
        previous = 0
        while previous != 2 * 199:
            value = await cells.double("a")
            assert value >= previous
            previous = value
            await asyncio.sleep(0)

    await asyncio.gather(write(), *(read() for _ in range(20)))
    computed = cells.double.peek("a")
    assert computed is not None
    assert computed.value == 398
    assert graph.stats.nodes == 2


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_server_joins_without_a_task(host: Host, cancelled: int) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    told: list[Computed[Any]] = []
    waiters = [cells.cell("a").join(told.append) for _ in range(2)]
    await gate.entered.wait()
    waiters[cancelled].leave()
    waiters[cancelled].leave()
    gate.open()
    await turns()
    assert [computed.value for computed in told] == [1]
    cells.cell("a").join(told.append)
    assert len(told) == 2
    waiters[1 - cancelled].leave()
    assert cells.cell("a").is_consistent


async def test_the_last_one_that_leaves_cancels_the_computation(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    told: list[Computed[Any]] = []
    waiters = [cells.cell("a").join(told.append) for _ in range(2)]
    await gate.entered.wait()
    for waiter in waiters:
        waiter.leave()
    assert graph.stats.nodes == 0
    gate.open()
    await turns()
    assert told == []


async def test_one_who_joins_a_cancelled_computation_is_told_the_current_one(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    handle = cells.cell("a")
    handle.join(lambda _: None).leave()
    told: list[Computed[Any]] = []
    handle.join(told.append)
    await turns()
    assert [computed.value for computed in told] == [1]
    assert told[0] is not handle
