"""`gather`: at once, in order, without a task where none is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.graph import Computed, Graph, compute_method, gather
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def failing(error: BaseException) -> int:
    raise error


async def test_results_come_in_order_whatever_is_awaited(host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    await cells.cell("a")
    future = asyncio.get_running_loop().create_future()
    future.set_result(5)
    coroutine = later(4)
    results = await gather(cells.cell("b"), cells.cell("a"), cells.cell("b"), coroutine, future)
    assert list(results) == [2, 1, 2, 4, 5]
    assert await gather() == []


async def test_the_same_coroutine_given_twice_runs_once() -> None:
    coroutine = later(4)
    assert list(await gather(coroutine, coroutine)) == [4, 4]


async def test_consistent_computeds_cost_no_task(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    await gather(cells.cell("a"), cells.cell("b"))
    made: list[object] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "create_task", made.append)
    assert await gather(*(cells.cell(name) for name in "abab")) == [1, 2, 1, 2]
    assert made == []


async def test_computeds_are_computed_at_the_same_time(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    gates = [cells.gate("a"), cells.gate("b")]
    task = asyncio.ensure_future(gather(cells.cell("a"), cells.cell("b")))
    for gate in gates:
        await gate.entered.wait()
    for gate in reversed(gates):
        gate.open()
    assert list(await task) == [1, 2]
    assert graph.stats.computations == 2


async def test_the_first_error_is_raised_at_once_and_computeds_are_left(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    with pytest.raises(KeyError, match="b"):
        await gather(cells.cell("a"), cells.cell("b"))
    assert cells.cell.peek("a") is None
    assert graph.stats.nodes == 1  # the error
    assert not gate.entered.is_set() or cells.log == ["a"]


async def test_others_who_wait_are_not_disturbed_by_the_error(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    other = asyncio.create_task(value_of(cells.cell("a")))
    await gate.entered.wait()
    with pytest.raises(ZeroDivisionError):
        await gather(cells.cell("a"), failing(ZeroDivisionError()))
    gate.open()
    assert await other == 1
    assert cells.log == ["a"]


async def test_errors_are_results_when_asked_for(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.cell("b").update()
    results = await gather(
        cells.cell("a"), cells.cell("b"), cells.cell("c"), failing(ValueError()), later(4), return_exceptions=True
    )
    assert [result if isinstance(result, int) else type(result) for result in results] == [
        1,
        KeyError,
        KeyError,
        ValueError,
        4,
    ]


async def test_a_cancelled_gather_cancels_what_it_waits_for(host: Host, graph: Graph) -> None:
    cells: Cells = host(Cells(a=1))
    gate = cells.gate("a")
    never = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(gather(cells.cell("a"), never))
    await gate.entered.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert never.cancelled()
    assert graph.stats.nodes == 0


async def test_a_cancellation_from_within_is_an_error_like_others(host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    with pytest.raises(asyncio.CancelledError):
        await gather(cells.cell("a"), failing(asyncio.CancelledError()))
    results = await gather(failing(asyncio.CancelledError()), return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)


async def test_a_cycle_is_an_error_of_its_element(host: Host) -> None:
    class Knot(ComputeService):
        @compute_method
        async def tie(self, name: str) -> int:
            results = await gather(self.tie(name), cells.cell("a"), return_exceptions=True)
            return sum(1 for result in results if isinstance(result, CircularDependencyError))

    cells: Cells = host(Cells(a=1))
    knot: Knot = host(Knot())
    assert await knot.tie("x") == 1
