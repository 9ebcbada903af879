"""What becomes a dependency, and what does not: A.15, A.16, and the edges of every interleaving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, State, compute_method, gather, isolated
from fusion_cluster.graph.core.context import current_computation
from fusion_cluster.graph.core.hot_path import dependencies_of, dependents_of
from tests.unit.graph.cells import Cells, Gate

Host = Callable[[Any], Any]


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


class Reader(ComputeService):
    """Computes by a function given from outside."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read
        self.runs = 0

    @compute_method
    async def get(self) -> Any:
        self.runs += 1
        return await self.read()


def keys(nodes: Any) -> set[str]:
    return {str(node.key) for node in nodes}


async def test_what_a_computation_awaits_becomes_its_dependency(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    assert await cells.total(("a", "b")) == 3
    total = cells.total(("a", "b"))
    assert keys(dependencies_of(total)) == {"Cells.cell('a')", "Cells.cell('b')"}
    assert set(dependents_of(cells.cell("a"))) == {total}
    await cells.put("b", 5)
    assert total.state is State.INVALIDATED
    assert await cells.total(("a", "b")) == 6
    assert cells.log == ["a", "b", "a+b", "b", "a+b"]  # a was not computed again


async def test_a_cached_dependency_counts_like_a_computed_one(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.cell("a")
    await cells.double("a")
    await cells.put("a", 2)
    assert await cells.double("a") == 4
    assert cells.log == ["a", "2*a", "a", "2*a"]


async def test_the_same_dependency_read_many_times_is_one(host: Host) -> None:
    cells: Cells = host(Cells(a=1))

    async def read() -> int:
        first = await gather(*(cells.cell("a") for _ in range(3)))
        return sum(first) + await cells.cell("a") + cells.cell("a").value

    reader = host(Reader(read))
    assert await reader.get() == 5
    assert len(dependencies_of(reader.get())) == 1


async def test_under_isolated_nothing_becomes_a_dependency(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))

    async def read() -> int:
        with isolated():
            hidden = await cells.cell("a") + sum(await gather(cells.cell("a"))) + cells.cell("a").value
        return hidden + await cells.cell("b")

    reader = host(Reader(read))
    assert await reader.get() == 5
    computed = reader.get()
    assert keys(dependencies_of(computed)) == {"Cells.cell('b')"}
    await cells.put("a", 7)
    assert computed.is_consistent
    await cells.put("b", 7)
    assert not computed.is_consistent


async def test_a_call_started_and_never_finished_is_no_dependency(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    gate = cells.gate("b")

    async def read() -> int:
        cells.cell("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await cells.cell("b")
        return 1

    reader = host(Reader(read))
    cells.cell("b").join(lambda _: None)
    await gate.entered.wait()
    assert await reader.get() == 1
    computed = reader.get()
    assert dependencies_of(computed) == []
    gate.open()
    await cells.put("a", 7)
    await cells.put("b", 7)
    assert computed.is_consistent


async def test_a_call_that_raises_is_a_dependency(host: Host) -> None:
    cells: Cells = host(Cells())

    async def read() -> int:
        try:
            return await cells.cell("a")
        except KeyError:
            return 0

    reader = host(Reader(read))
    assert await reader.get() == 0
    await cells.put("a", 3)
    assert await reader.get() == 3


async def test_dependencies_that_a_recomputation_no_longer_uses_no_longer_invalidate_it(host: Host) -> None:
    cells: Cells = host(Cells(which=1, a=10, b=20))

    async def read() -> int:
        return await cells.cell("a" if await cells.cell("which") == 1 else "b")

    reader = host(Reader(read))
    assert await reader.get() == 10
    await cells.put("which", 2)
    assert await reader.get() == 20
    computed = reader.get()
    await cells.put("a", 11)
    assert computed.is_consistent
    assert reader.runs == 2
    await cells.put("b", 21)
    assert await reader.get() == 21


async def test_a_value_read_from_a_handle_is_a_dependency(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    handle = cells.cell("a")
    await handle

    async def read() -> int:
        return handle.value

    reader = host(Reader(read))
    assert await reader.get() == 1
    computed = reader.get()
    await cells.put("a", 2)
    assert not computed.is_consistent


async def test_a_handle_called_outside_and_awaited_inside_is_a_dependency(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    handle = cells.cell("a")

    async def read() -> int:
        return await handle

    reader = host(Reader(read))
    assert await reader.get() == 1
    assert dependencies_of(reader.get()) == [handle]


async def test_reading_the_old_value_of_an_invalidated_computed_outdates_the_reader(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    old = cells.cell("a")
    await old
    await cells.put("a", 2)

    async def read() -> int:
        return old.value

    reader = host(Reader(read))
    assert await reader.get() == 1
    assert reader.get.peek() is None


async def test_tasks_made_by_a_body_read_for_it(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))

    async def read() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(value_of(cells.cell(name))) for name in "ab"]
        return sum(task.result() for task in tasks)

    reader = host(Reader(read))
    assert await reader.get() == 3
    assert keys(dependencies_of(reader.get())) == {"Cells.cell('a')", "Cells.cell('b')"}


async def test_what_a_task_reads_after_its_body_has_ended_is_no_dependency(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1, b=2, c=3))
    release = asyncio.Event()
    tasks: list[asyncio.Task[int]] = []

    async def background() -> int:
        early = await cells.cell("a")  # while the body runs: counts
        read_early.set()
        waiting = await cells.cell("b")  # begun while the body runs, ends after it: does not count
        await release.wait()
        return early + waiting + await cells.cell("c")

    async def read() -> int:
        tasks.append(asyncio.create_task(background()))
        await read_early.wait()
        await gate.entered.wait()
        return 0

    gate, read_early = cells.gate("b"), asyncio.Event()
    reader = host(Reader(read))
    assert await reader.get() == 0
    computed = reader.get()
    graph.validate()
    gate.open()
    release.set()
    assert await tasks[0] == 6
    assert keys(dependencies_of(computed)) == {"Cells.cell('a')"}
    await cells.put("b", 7)
    await cells.put("c", 7)
    assert computed.is_consistent
    await cells.put("a", 7)
    assert not computed.is_consistent


async def test_the_current_computation_does_not_leak_to_the_caller(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.double("a")
    assert current_computation.get() is None
    with isolated():
        await cells.double("a")
    assert current_computation.get() is None


async def test_a_dependency_is_not_that_of_the_caller_who_happened_to_start_it(host: Host) -> None:
    """`double` is started from within `read`, but `cell` is used by `double` alone."""
    cells: Cells = host(Cells(a=1))

    async def read() -> int:
        return await cells.double("a")

    reader = host(Reader(read))
    await reader.get()
    assert keys(dependencies_of(reader.get())) == {"Cells.double('a')"}
    assert keys(dependents_of(cells.cell("a"))) == {"Cells.double('a')"}


async def test_waiting_is_undone_when_the_wait_is_given_up(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    gate, second = cells.gate("a"), Gate()

    async def read() -> int:
        wait = asyncio.create_task(value_of(cells.cell("a")))
        await gate.entered.wait()
        wait.cancel()
        await asyncio.wait({wait})
        await second.pass_through()
        return 1

    other = asyncio.create_task(value_of(cells.cell("a")))
    reader = host(Reader(read))
    task = asyncio.create_task(value_of(reader.get()))
    await second.entered.wait()
    graph.validate()
    assert set(dependents_of(cells.cell("a"))) == set()
    await cells.put("a", 2)
    second.open()
    assert await task == 1
    assert reader.get.peek() is not None  # it never had the outdated value
    gate.open()
    assert await other == 1


async def test_one_of_two_waits_given_up_leaves_the_other(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")

    async def read() -> int:
        waits = [asyncio.create_task(value_of(cells.cell("a"))) for _ in range(2)]
        await gate.entered.wait()
        waits[0].cancel()
        await asyncio.wait({waits[0]})
        graph.validate()
        gate.open()
        return int(await waits[1])

    reader = host(Reader(read))
    assert await reader.get() == 1
    assert keys(dependencies_of(reader.get())) == {"Cells.cell('a')"}


async def test_overriding_methods_reach_the_overridden_body_without_a_node(host: Host, graph: Graph) -> None:
    class Loud(Cells):
        @compute_method
        async def cell(self, name: str) -> int:
            return 100 + await super().cell(name)

    cells: Loud = host(Loud(a=1))
    assert await cells.double("a") == 202
    assert cells.log == ["a", "2*a"]
    assert graph.stats.nodes == 2


@pytest.mark.parametrize("waits_by_gather", [False, True])
async def test_a_computed_that_was_invalidated_before_a_body_awaits_it_gives_the_new_value(
    host: Host, waits_by_gather: bool
) -> None:
    """Else a caller who has come after the change, and has joined the computation, would be given the old one."""

    class Holder(ComputeService):
        def __init__(self, cells: Cells) -> None:
            self.cells = cells
            self.held = asyncio.Event()
            self.changed = asyncio.Event()

        @compute_method
        async def total(self) -> int:
            cell = self.cells.cell("a")
            self.held.set()
            await self.changed.wait()
            if waits_by_gather:
                (value,) = await gather(cell)
                return value
            return await cell

    cells: Cells = host(Cells(a=1))
    holder: Holder = host(Holder(cells))
    assert await cells.cell("a") == 1
    early = asyncio.ensure_future(value_of(holder.total()))
    await holder.held.wait()
    await cells.put("a", 2)
    late = asyncio.ensure_future(value_of(holder.total()))
    await asyncio.sleep(0)
    holder.changed.set()
    assert await late == 2
    assert await early == 2
    await cells.put("a", 3)
    assert await holder.total() == 3


async def test_a_computed_that_is_out_of_date_while_it_computes_is_not_waited_for_by_who_comes_later(
    host: Host,
) -> None:
    class Holder(ComputeService):
        def __init__(self, cells: Cells) -> None:
            self.cells = cells
            self.held = asyncio.Event()
            self.changed = asyncio.Event()

        @compute_method
        async def total(self) -> int:
            cell = self.cells.cell("a")
            self.held.set()
            await self.changed.wait()
            return await cell

    cells: Cells = host(Cells(a=1))
    holder: Holder = host(Holder(cells))
    gate = cells.gate("a")
    direct = asyncio.ensure_future(value_of(cells.cell("a")))
    await gate.entered.wait()  # it has read 1
    early = asyncio.ensure_future(value_of(holder.total()))
    await holder.held.wait()
    await cells.put("a", 2)
    late = asyncio.ensure_future(value_of(holder.total()))
    await asyncio.sleep(0)
    holder.changed.set()
    assert await late == 2
    assert await early == 2
    gate.open()
    assert await direct == 1
