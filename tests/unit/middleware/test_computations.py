"""Around computations: the body runs as if nothing were around it, and what comes out is what is cached."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

from fusion_cluster import App, Call, ComputeService, Next, UsageError, compute_method
from tests.unit.middleware.bakery import Bakery, Recorder, baking, customer


async def test_each_run_of_a_body_passes_and_no_hit_does() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        for _ in range(3):
            assert await bakery.total("roll", count=2) == 4
        assert recorder.names == ["Bakery.total('roll', 2, '')", "Bakery.price('roll')"]
        await bakery.set_price("roll", 3)
        assert await bakery.total("roll", count=2) == 6
        assert recorder.names[2:] == ["Bakery.set_price('roll', 3)", "Bakery.total('roll', 2, '')",
                                      "Bakery.price('roll')"]  # fmt: skip


async def test_a_call_says_what_it_is() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        await bakery.total("roll", coupon="x")
        call = recorder.calls[0]
        assert call.service is bakery
    assert (call.kind, call.name) == ("compute", "Bakery.total")
    assert (call.service_name, call.method_name) == ("Bakery", "total")
    assert call.parameter_names == ("product", "count", "coupon")
    assert call.arguments == ("roll", 1, "x")
    assert call.argument("coupon") == "x"
    assert (call.command_id, call.is_nested) == (None, False)
    with pytest.raises(KeyError, match="no parameter 'price'"):
        call.argument("price")


async def test_callers_who_join_a_computation_do_not_pass() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        readers = [asyncio.ensure_future(bakery.held(1)) for _ in range(3)]
        await bakery.entered.wait()
        bakery.gate.set()
        assert await asyncio.gather(*readers) == [1, 1, 1]
        assert len(recorder.calls) == 1


async def test_the_body_runs_in_the_computations_own_task_and_context() -> None:
    tasks: list[Any] = []
    here: list[str] = []

    async def watching(call: Call, next: Next) -> Any:
        tasks.append(asyncio.current_task())
        here.append(customer.get())
        token = customer.set(f"{customer.get()} and me")
        try:
            return await next(call)
        finally:
            customer.reset(token)

    class Room(ComputeService):
        @compute_method
        async def guests(self) -> str:
            tasks.append(asyncio.current_task())
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            return customer.get()

    async with App("room", services=[Room], middleware=[watching]).local() as host:
        token = customer.set("Ann")
        assert await host.service(Room).guests() == "Ann and me"
        assert customer.get() == "Ann"
        customer.reset(token)
    assert here == ["Ann"]
    assert tasks[0] is tasks[1] is not asyncio.current_task()


async def test_what_a_middleware_reads_is_a_dependency() -> None:
    async def surcharge(call: Call, next: Next) -> Any:
        result = await next(call)
        if call.method_name == "total":
            assert isinstance(call.service, Bakery)
            result += await call.service.price("cake")
        return result

    async with baking(surcharge) as bakery:
        assert await bakery.total("roll") == 22
        await bakery.set_price("cake", 30)
        assert await bakery.total("roll") == 32


async def test_a_body_that_need_not_wait_still_costs_no_turn_of_the_loop() -> None:
    turned: list[bool] = []
    async with baking(Recorder(), Recorder()) as bakery:
        asyncio.get_running_loop().call_soon(turned.append, True)
        assert await bakery.total("roll") == 2
        assert not turned


async def test_a_plain_def_passes() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        assert await bakery.in_cents("roll") == 200
        assert recorder.names == ["Bakery.in_cents('roll')"]


@pytest.mark.parametrize("method", ["receipt", "letter"])
async def test_around_a_body_in_a_thread_middleware_is_on_the_loop(method: str) -> None:
    threads: set[int] = set()

    async def watching(call: Call, next: Next) -> Any:
        threads.add(threading.get_ident())
        customer.set("Ann")
        return await next(call)

    async with baking(watching) as bakery:
        read = bakery.receipt if method == "receipt" else bakery.letter
        assert await read("roll") in ("roll: 2, Ann", "roll costs 2, Ann")
        assert threads == {threading.get_ident()}
        await bakery.set_price("roll", 3)
        assert await read("roll") in ("roll: 3, Ann", "roll costs 3, Ann"), "what the thread has read is a dependency"


async def test_around_a_task_middleware_is_where_the_task_is_awaited() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        assert await bakery.heavy(12) == 144
        assert recorder.names == ["Bakery.heavy(12)"]


async def test_a_consolidated_computation_passes_once_under_its_own_name() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        assert await bakery.is_cheap("roll") is True
        assert recorder.names == ["Bakery.is_cheap('roll')", "Bakery.price('roll')"]


async def test_a_value_that_was_paged_out_passes_when_it_is_computed_again() -> None:
    class Pages(ComputeService):
        @compute_method
        async def page(self, number: int) -> bytes:
            return bytes(10_000)

        @compute_method
        async def length(self, number: int) -> int:
            return len(await self.page(number))

    recorder = Recorder()
    async with App("pages", services=[Pages], middleware=[recorder]).local(max_bytes=30_000) as host:
        pages = host.service(Pages)
        for number in range(4):
            pages.length(number).on_invalidated(print)  # in use, with the page beneath it
            await pages.length(number)
        length = pages.length.peek(0)
        recorder.calls.clear()
        assert len(await pages.page(0)) == 10_000
        assert recorder.names == ["Pages.page(0)"]
        assert length is not None
        assert length.is_consistent, "it has heard nothing of it"


async def test_errors_are_memoized_as_the_middleware_raises_them() -> None:
    async def refusing(call: Call, next: Next) -> Any:
        raise ValueError(str(call))

    recorder = Recorder()
    async with baking(recorder, refusing) as bakery:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"Bakery.price\('roll'\)"):
                await bakery.price("roll")
        assert len(recorder.calls) == 1


async def test_an_argument_that_is_cached_by_its_type_arrives_as_it_is() -> None:
    class Numbers(ComputeService):
        @compute_method
        async def shown(self, number: Any, *, other: Any = None) -> str:
            return f"{number!r} {other!r}"

    recorder = Recorder()
    async with App("numbers", services=[Numbers], middleware=[recorder]).local() as host:
        numbers = host.service(Numbers)
        assert [await numbers.shown(one) for one in (1, 1.0, True)] == ["1 None", "1.0 None", "True None"]
        assert await numbers.shown(math.inf, other=2) == "inf 2"
    assert [call.arguments for call in recorder.calls] == [(1, None), (1.0, None), (True, None), (math.inf, 2)]


async def test_a_compute_method_under_middleware_cannot_call_a_command() -> None:
    async def ordering(call: Call, next: Next) -> Any:
        assert isinstance(call.service, Bakery)
        await call.service.order("roll")
        return await next(call)

    async with baking(ordering) as bakery:
        with pytest.raises(UsageError, match="a compute method cannot call it"):
            await bakery.price("roll")
