"""What a computed offers to those who want the next one: `update`, `when`, `changes`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import Overloaded
from fusion_cluster.graph import Graph, GraphHosting, compute_method
from fusion_cluster.graph.core.hot_path import dependencies_of
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.cells import Cells
from tests.waiting import until

Host = Callable[[Any], Any]


async def test_update_gives_this_one_while_it_is_consistent_and_then_the_next(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    first = await cells.cell("a").update()
    assert first.value == 1
    assert await first.update() is first
    await cells.put("a", 2)
    second = await first.update()
    assert second is not first
    assert (first.value, second.value) == (1, 2)
    assert cells.log == ["a", "a"]


async def test_update_gives_a_failed_computation_without_raising(host: Host) -> None:
    cells: Cells = host(Cells())
    computed = await cells.cell("a").update()
    assert isinstance(computed.error, KeyError)
    with pytest.raises(KeyError):
        _ = computed.value


async def test_update_makes_what_it_gives_a_dependency(host: Host) -> None:
    class Following(ComputeService):
        @compute_method
        async def get(self) -> int:
            return (await handle.update()).value

    cells: Cells = host(Cells(a=1))
    handle = cells.cell("a")
    following: Following = host(Following())
    assert await following.get() == 1
    assert dependencies_of(following.get()) == [handle]
    await cells.put("a", 2)
    assert await following.get() == 2


async def test_when_waits_for_a_value(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    waiting = asyncio.create_task(cells.cell("a").when(lambda value: value >= 3))
    for value in (2, 3):
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        await cells.put("a", value)
    assert (await waiting).value == 3
    assert (await cells.cell("a").when(bool)).value == 3


async def test_a_computation_that_waits_for_a_value_depends_on_the_one_it_got_alone(host: Host) -> None:
    class Patient(ComputeService):
        @compute_method
        async def get(self) -> int:
            return (await handle.when(lambda value: value >= 2)).value

    cells: Cells = host(Cells(a=1))
    handle = cells.cell("a")
    patient: Patient = host(Patient())
    waiting = asyncio.create_task(patient.get().update())
    await until(lambda: cells.cell.peek("a"))
    await cells.put("a", 2)
    computed = await waiting
    assert computed.value == 2
    assert computed.is_consistent
    await cells.put("a", 3)
    assert not computed.is_consistent


async def test_when_raises_the_error_of_a_computation(host: Host) -> None:
    cells: Cells = host(Cells())
    with pytest.raises(KeyError):
        await cells.cell("a").when(bool)


async def test_changes_gives_the_value_now_and_after_each_change(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    seen = []
    async for computed in cells.double.changes("a"):
        seen.append(computed.value)
        if len(seen) == 3:
            break
        await cells.put("a", computed.value)
    assert seen == [2, 4, 8]


async def test_a_slow_reader_of_changes_skips_what_it_missed(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    changes = cells.cell("a").changes()
    assert (await anext(changes)).value == 1
    for value in range(2, 10):
        await cells.put("a", value)
        await cells.cell("a")
    assert (await anext(changes)).value == 9


async def test_changes_goes_on_after_an_error(host: Host) -> None:
    cells: Cells = host(Cells())
    changes = cells.cell.changes("a")
    assert isinstance((await anext(changes)).error, KeyError)
    await cells.put("a", 1)
    assert (await anext(changes)).value == 1


def test_changes_does_not_spin_on_errors_that_are_not_memoized() -> None:
    class Busy(ComputeService):
        runs = 0

        @compute_method(transient_error_delay=2.0)
        async def get(self) -> int:
            self.runs += 1
            if self.runs <= 2:
                raise Overloaded("full", retry_after_s=5.0 if self.runs == 1 else None)
            return self.runs

    async def main() -> None:
        graph, busy = Graph(), Busy()
        attach(busy, GraphHosting(graph))
        loop = asyncio.get_running_loop()
        times: list[float] = []
        async for computed in busy.get.changes():
            times.append(loop.time())
            if computed.error is None:
                break
        assert times == pytest.approx([0.0, 5.0, 7.0])
        await graph.close()

    run_in_virtual_time(main())


async def test_readers_racing_a_writer_all_end_on_the_final_value(host: Host) -> None:
    cells: Cells = host(Cells(a=0))

    async def follow() -> int:
        return (await cells.double("a").when(lambda value: value == 200)).value

    async def write() -> None:
        for value in range(101):
            await cells.put("a", value)
            await asyncio.sleep(0)

    results = await asyncio.gather(write(), *(follow() for _ in range(50)))
    assert results[1:] == [200] * 50
