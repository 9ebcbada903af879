"""Bodies in threads under random changes, callers and cancellations: never stale, nothing stuck, nothing left over."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.unit.bodies.desk import Office
from tests.waiting import until

METHODS = ("twice", "twice_async", "by_a_plain_coroutine", "by_a_plain_coroutine_async")
TIMEOUT_S = 60.0


def expected(method: str, value: int) -> int:
    return 2 * value if method.startswith("twice") else 100 + value


@pytest.mark.parametrize("seed", range(12))
async def test_a_read_that_starts_after_a_change_never_gets_the_old_value(seed: int) -> None:
    rng = random.Random(seed)
    office = Office()
    names = list(office.sheet.cells)
    others: list[asyncio.Future[object]] = []
    async with asyncio.timeout(TIMEOUT_S):
        for step in range(120):
            name, method = rng.choice(names), rng.choice(METHODS)
            others += [
                asyncio.ensure_future(getattr(office.desk, rng.choice(METHODS))(rng.choice(names)).update())
                for _ in range(rng.randrange(3))
            ]
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            office.sheet.put(name, step)
            assert await getattr(office.desk, method)(name) == expected(method, step)
            if others and rng.random() < 0.5:
                others.pop(rng.randrange(len(others))).cancel()
        await asyncio.gather(*others, return_exceptions=True)
    office.graph.validate()
    for method in METHODS:
        for name in names:
            assert await getattr(office.desk, method)(name) == expected(method, office.sheet.cells[name])
    await office.graph.close()
    await until(lambda: office.bodies.threads.running == 0)


@pytest.mark.parametrize("seed", range(4))
async def test_random_cancellations_leave_no_thread_that_waits_and_no_node(seed: int) -> None:
    rng = random.Random(seed)
    office = Office()
    async with asyncio.timeout(TIMEOUT_S):
        for _ in range(8):
            office.sheet.gate = asyncio.Event()
            office.sheet.cell.invalidate("a")
            callers = [
                asyncio.ensure_future(getattr(office.desk, rng.choice(("nested", "nested_async")))(depth).update())
                for depth in rng.sample(range(30), 12)
            ]
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            cancelled = rng.sample(callers, rng.randrange(len(callers) + 1))
            for caller in cancelled:
                caller.cancel()
            office.sheet.gate.set()
            for caller in callers:
                if caller not in cancelled:
                    assert (await caller).value > 0
            await asyncio.gather(*cancelled, return_exceptions=True)
            office.graph.validate()
    await office.graph.close()
    await until(lambda: office.bodies.threads.running == 0)
    assert not office.bodies.threads._jobs
    assert not office.bodies.threads._returning
