"""The log of slow calls."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fusion_cluster import UsageError
from fusion_cluster.middleware import SlowCalls
from tests.unit.middleware.bakery import baking


async def test_a_call_that_takes_long_is_logged_with_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter([0.0, 1.0, 5.0, 5.1])
    async with baking(SlowCalls(0.5, clock=lambda: next(ticks))) as bakery:
        await bakery.price("roll")
        await bakery.price("cake")
    assert [record.getMessage() for record in caplog.records] == ["Bakery.price('roll') took 1.000 s and returned"]
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("fusion_cluster.slow_calls", logging.WARNING)
    ]


async def test_how_it_ended_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    async with baking(SlowCalls(0, arguments=False)) as bakery:
        with pytest.raises(KeyError):
            await bakery.price("bread")
        run = asyncio.ensure_future(bakery.close())
        await bakery.entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("Bakery.price took 0.0")
    assert first.endswith(" s and raised KeyError")
    assert second.startswith("Bakery.close (command ")
    assert second.endswith(" s and was cancelled")


async def test_a_long_argument_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with baking(SlowCalls(0)) as bakery:
        await bakery.order(10_000 * "x")
    assert len(caplog.records[0].getMessage()) < 200


@pytest.mark.parametrize("threshold_s", [-1, float("nan")])
def test_a_threshold_is_not_negative(threshold_s: float) -> None:
    with pytest.raises(UsageError) as caught:
        SlowCalls(threshold_s)
    assert caught.value.field == "threshold_s"
