"""How calls pass: in which order, and what a middleware can do with them."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from fusion_cluster import Call, Next, UsageError
from tests.unit.middleware.bakery import Bakery, Recorder, baking
from tests.waiting import until


class Numbered:
    """Says when a call comes and goes."""

    def __init__(self, number: int, log: list[str]) -> None:
        self.number = number
        self.log = log

    async def __call__(self, call: Call, next: Next) -> Any:
        self.log.append(f"{self.number} in")
        try:
            return await next(call)
        finally:
            self.log.append(f"{self.number} out")


async def test_the_first_middleware_is_the_outermost() -> None:
    log: list[str] = []
    async with baking(Numbered(1, log), Numbered(2, log)) as bakery:
        bakery.log = log
        assert await bakery.price("roll") == 2
        assert log == ["1 in", "2 in", "price(roll)", "2 out", "1 out"]
        log.clear()
        assert await bakery.order("roll") == "one roll for nobody"
        assert log == ["1 in", "2 in", "order(roll)", "2 out", "1 out"]


async def test_an_async_function_is_middleware_and_names_its_parameters_as_it_likes() -> None:
    async def doubling(the_call: Call, onwards: Next) -> Any:
        return 2 * await onwards(the_call)

    async with baking(doubling) as bakery:
        assert await bakery.price("roll") == 4


async def test_what_a_middleware_returns_is_the_result_also_without_the_body() -> None:
    async def free(call: Call, next: Next) -> Any:
        return 0 if call.method_name == "price" else await next(call)

    async with baking(free) as bakery:
        assert await bakery.total("cake", count=3) == 0
        assert bakery.log == ["total(cake)"]


async def test_a_middleware_may_let_a_call_through_twice() -> None:
    async def twice(call: Call, next: Next) -> Any:
        return await next(call) + await next(call)

    inner = Recorder()
    async with baking(twice, inner) as bakery:
        assert await bakery.price("roll") == 4
        assert bakery.log == ["price(roll)", "price(roll)"]
        assert len(inner.calls) == 2


async def test_a_middleware_may_let_a_call_through_at_once_with_another() -> None:
    async def race(call: Call, next: Next) -> Any:
        return max(await asyncio.gather(next(call), next(call)))

    async with baking(race) as bakery:
        assert await bakery.total("roll") == 2
        bakery.price.invalidate("roll")
        assert bakery.total.peek("roll") is None, "both runs depend on the price"


async def test_an_error_passes_outwards_and_may_become_a_result() -> None:
    async def forgiving(call: Call, next: Next) -> Any:
        try:
            return await next(call)
        except KeyError:
            return -1

    async with baking(forgiving) as bakery:
        assert await bakery.price("bread") == -1
        node = bakery.price("bread")
        assert (node.error, node.is_consistent) == (None, True)


async def test_an_error_may_become_another() -> None:
    async def translating(call: Call, next: Next) -> Any:
        try:
            return await next(call)
        except KeyError as error:
            raise LookupError(f"no {call.argument('product')}") from error

    async with baking(translating) as bakery:
        with pytest.raises(LookupError, match="no bread") as caught:
            await bakery.price("bread")
        assert isinstance(caught.value.__cause__, KeyError)
        cached = bakery.price("bread").error
        assert cached is bakery.price("bread").error, "it is the result, and cached"
        assert repr(cached) == repr(caught.value)


@pytest.mark.parametrize("method", ["held", "close"])
async def test_a_cancellation_passes_through_all_middleware(method: str) -> None:
    ended: list[str] = []

    async def watching(call: Call, next: Next) -> Any:
        try:
            return await next(call)
        except asyncio.CancelledError:
            ended.append(call.method_name)
            raise

    async with baking(watching, watching) as bakery:
        run = asyncio.ensure_future(bakery.held(1) if method == "held" else bakery.close())
        await bakery.entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await until(lambda: ended == [method, method])
        assert bakery.held.peek(1) is None


async def test_a_middleware_that_swallows_a_cancellation_keeps_no_computation_alive() -> None:
    async def stubborn(call: Call, next: Next) -> Any:
        try:
            return await next(call)
        except asyncio.CancelledError:
            return -1

    async with baking(stubborn) as bakery:
        run = asyncio.ensure_future(bakery.held(1))
        await bakery.entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        bakery.gate.set()
        assert await bakery.held(1) == 1


# -- misuse ------------------------------------------------------------------------------------------------------------
async def test_another_call_cannot_be_passed_on() -> None:
    async def cheating(call: Call, next: Next) -> Any:
        return await next(dataclasses.replace(call, arguments=("cake",)))

    async with baking(cheating) as bakery:
        with pytest.raises(UsageError, match=r"Bakery.price: .* must pass on the call that it was given"):
            await bakery.price("roll")
        with pytest.raises(UsageError, match="must pass on the call that it was given"):
            await bakery.order("roll")
        assert bakery.log == []


async def test_a_call_cannot_be_changed() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        await bakery.price("roll")
    with pytest.raises(dataclasses.FrozenInstanceError):
        recorder.calls[0].arguments = ("cake",)  # type: ignore[misc]


async def test_a_middleware_that_forgets_to_await_is_told_so() -> None:
    async def forgetful(call: Call, next: Next) -> Any:
        return next(call)

    async with baking(Recorder(), forgetful) as bakery:
        with pytest.raises(UsageError, match=r"Bakery.price: the middleware .*forgetful has returned a coroutine"):
            await bakery.price("roll")


async def test_next_cannot_be_called_when_the_call_has_ended() -> None:
    kept: list[tuple[Call, Next]] = []

    async def keeping(call: Call, next: Next) -> Any:
        kept.append((call, next))
        return "kept"

    async with baking(keeping) as bakery:
        assert await bakery.order("roll") == "kept"
        ((call, next),) = kept
        with pytest.raises(UsageError, match=r"Bakery.order: .* called next\(\) after the call had ended"):
            await next(call)
        assert bakery.log == []


async def test_without_middleware_the_body_is_called_as_it_is() -> None:
    async with baking() as bakery:
        body: Any = bakery.price.function.body
        assert body.__func__ is Bakery.price.body
