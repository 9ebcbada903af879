"""`offload="thread"`: bodies in threads are cached, tracked and cancelled like those on the loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from fusion_cluster import CircularDependencyError, ComputeService, UsageError, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import GraphHosting
from tests.unit.bodies.desk import PLACES, TIMEOUT_S, Office, flavour
from tests.waiting import until


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    yield office
    for gate in office.desk.gates.values():
        gate.opened.set()
    office.graph.validate()
    await office.graph.close()
    office.graph.validate()
    await until(lambda: office.bodies.threads.running == 0)


@pytest.mark.parametrize("method", ["twice", "twice_async"])
async def test_a_body_runs_in_a_thread_and_is_cached_and_tracked(office: Office, method: str) -> None:
    twice = getattr(office.desk, method)
    assert await twice("a") == 2
    assert await twice("a") == 2
    assert len(office.desk.threads) == 1
    assert office.desk.threads[0] != threading.get_ident()
    before = twice("a")
    office.sheet.put("a", 7)
    assert not before.is_consistent
    assert await twice("a") == 14


@pytest.mark.parametrize("method", ["rated", "rated_async"])
async def test_a_state_read_in_a_thread_is_a_dependency(office: Office, method: str) -> None:
    rated = await getattr(office.desk, method)().update()
    office.desk.rate.set(5)
    assert not rated.is_consistent
    assert await getattr(office.desk, method)() == {"rated": 50, "rated_async": 25}[method]


async def test_an_async_body_gathers_at_once(office: Office) -> None:
    office.sheet.gate = asyncio.Event()
    total = asyncio.ensure_future(office.desk.total(("a", "b", "c")).update())
    await until(lambda: sorted(office.sheet.reading) == ["a", "b", "c"])
    office.sheet.gate.set()
    computed = await total
    assert computed.value == 6
    office.sheet.put("b", 20)
    assert not computed.is_consistent


@pytest.mark.parametrize("method", ["nested", "nested_async"])
async def test_a_chain_deeper_than_there_are_threads_does_not_block(office: Office, method: str) -> None:
    depth = 10 * PLACES
    assert await getattr(office.desk, method)(depth) == depth + 1
    top = getattr(office.desk, method)(depth)
    office.sheet.put("a", 100)
    assert not top.is_consistent
    assert await getattr(office.desk, method)(depth) == depth + 100


async def test_many_at_once_that_wait_for_one_do_not_block(office: Office) -> None:
    office.sheet.gate = asyncio.Event()
    many = asyncio.gather(*(office.desk.nested(depth) for depth in range(40)))
    await until(lambda: office.sheet.reading)
    office.sheet.gate.set()
    assert await many == [depth + 1 for depth in range(40)]


@pytest.mark.parametrize("method", ["apart", "apart_async"])
async def test_isolated_reads_are_no_dependencies_in_threads_either(office: Office, method: str) -> None:
    computed = await getattr(office.desk, method)("a").update()
    assert computed.value == 1
    office.sheet.put("a", 2)
    assert computed.is_consistent


async def test_reads_in_threads_that_the_body_makes_are_dependencies(office: Office) -> None:
    computed = await office.desk.in_threads_of_its_own().update()
    assert computed.value == 3
    office.sheet.put("b", 3)
    assert not computed.is_consistent


@pytest.mark.parametrize("method", ["round_trip", "round_trip_async", "round_trip_apart", "round_trip_apart_async"])
async def test_a_cycle_through_threads_raises_with_its_path(office: Office, method: str) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(CircularDependencyError, match=rf"Desk.{method}\(0\) → Desk.{method}\(1\)"):
            await getattr(office.desk, method)(0)


async def test_an_error_comes_back_as_itself_and_is_kept(office: Office) -> None:
    with pytest.raises(KeyError) as first:
        await office.desk.relaying("gone")
    with pytest.raises(KeyError) as second:
        await office.desk.failing("gone")
    assert first.value is not second.value
    assert office.desk.relaying("gone").error is office.desk.failing("gone").error
    assert "failing" in {entry.name for entry in second.traceback}
    assert office.desk.relaying.peek("gone") is not None


async def test_cancelling_does_not_wait_for_the_thread_which_hears_of_it_when_it_calls(office: Office) -> None:
    gate = office.gate("a")
    computed = office.desk.held("a")
    caller = asyncio.ensure_future(computed.update())
    await until(gate.entered.is_set)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert office.graph.stats.nodes == 0
    assert not gate.left
    gate.opened.set()
    await until(lambda: gate.left)
    assert isinstance(gate.left[0], asyncio.CancelledError)
    assert not office.sheet.reading
    await until(lambda: office.bodies.threads.running == 0)


async def test_cancelling_ends_what_the_thread_waits_for(office: Office) -> None:
    gate = office.gate("b")
    gate.opened.set()
    office.sheet.gate = asyncio.Event()
    caller = asyncio.ensure_future(office.desk.held("b").update())
    await until(lambda: office.sheet.reading)
    caller.cancel()
    await until(lambda: gate.left and office.sheet.cancelled)
    assert isinstance(gate.left[0], asyncio.CancelledError)
    assert office.sheet.cancelled == ["b"]
    assert office.graph.stats.nodes == 0


async def test_an_async_body_is_cancelled_at_once(office: Office) -> None:
    gate = office.gate("c")
    caller = asyncio.ensure_future(office.desk.waits_for_ever("c").update())
    await until(gate.entered.is_set)
    caller.cancel()
    await until(lambda: gate.left)
    assert isinstance(gate.left[0], asyncio.CancelledError)


async def test_a_body_that_has_not_begun_when_it_is_cancelled_never_runs(office: Office) -> None:
    gates = [office.gate(str(number)) for number in range(PLACES)]
    office.sheet.cells.update({str(number): number for number in range(PLACES)})
    holders = [asyncio.ensure_future(office.desk.held(str(number)).update()) for number in range(PLACES)]
    await until(lambda: all(gate.entered.is_set() for gate in gates))
    late = asyncio.ensure_future(office.desk.twice("a").update())
    await until(lambda: office.graph.stats.computations == PLACES + 1)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    for gate in gates:
        gate.opened.set()
    await asyncio.gather(*holders)
    assert not office.desk.threads


async def test_outdated_in_mid_thread_is_born_invalidated_and_its_waiter_gets_the_value(office: Office) -> None:
    gate = office.gate("a")
    computed = office.desk.held_early("a")
    caller = asyncio.ensure_future(computed.update())
    await until(gate.entered.is_set)
    office.sheet.put("a", 50)
    assert office.desk.held_early("a") is not computed
    gate.opened.set()
    assert (await caller).value == 1
    assert not computed.is_consistent
    assert await office.desk.held_early("a") == 50


async def test_the_context_of_the_caller_is_there_and_knows_that_it_computes(office: Office) -> None:
    flavour.set("vanilla")
    assert await office.desk.of_a_flavour() == "vanilla"
    assert await office.desk.tells_that_it_computes()


@pytest.mark.parametrize("method", ["by_a_plain_coroutine", "by_a_plain_coroutine_async"])
async def test_plain_coroutines_of_a_service_are_tracked_too(office: Office, method: str) -> None:
    computed = await getattr(office.desk, method)("a").update()
    assert computed.value == 101
    office.sheet.put("a", 3)
    assert not computed.is_consistent


@pytest.mark.parametrize(
    ("what", "reason"),
    [("peek", "not for a thread"), ("changes", "not for a thread"), ("state", "in a thread"), ("command", "a command")],
)
async def test_what_a_thread_cannot_do_is_a_usage_error(office: Office, what: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        await office.desk.misuse(what)
    assert office.desk.rate.value == 2


async def test_a_thread_can_invalidate(office: Office) -> None:
    cell = await office.sheet.cell("a").update()
    await office.desk.forgets("a")
    assert not cell.is_consistent


async def test_a_body_leaves_nothing_behind(office: Office) -> None:
    class Value:
        pass

    class Values(ComputeService):
        @compute_method(offload="thread")
        def get(self, fails: bool) -> Value:
            value = Value()
            values.append(weakref.ref(value))
            if fails:
                raise ValueError(value)
            return value

    values: list[weakref.ref[Value]] = []
    service = Values()
    attach(service, GraphHosting(office.graph), bodies=office.bodies)
    gc.collect()
    gc.disable()
    try:
        for fails in (False, True):
            await service.get(fails).update()
            assert values[-1]() is not None
            service.get.invalidate(fails)
            await until(lambda: values[-1]() is None, what="the value's end")
    finally:
        gc.enable()
