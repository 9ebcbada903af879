"""How the benchmarks measure: rounds in turns, fresh processes, expressions in one loop, pauses of the collector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from benchmarks import graph_cases, hit_cases, memory_cases
from benchmarks.fresh_process import Figures, Loop, in_a_fresh_process
from benchmarks.rounds import Batch, best_of


async def test_batches_take_turns_and_the_best_round_of_each_counts() -> None:
    turns: list[str] = []
    seconds = {"slow": iter([3e-6, 2e-6, 4e-6]), "fast": iter([1e-6, 5e-6, 1e-6])}

    def taking(name: str) -> Batch:
        async def batch(calls: int) -> float:
            assert calls == 2
            turns.append(name)
            return next(seconds[name])

        return batch

    best = await best_of({name: taking(name) for name in seconds}, rounds=3, calls=2)
    assert best == {"slow": pytest.approx(1000), "fast": pytest.approx(500)}
    assert turns == ["slow", "fast"] * 3


async def describe_the_process(number: int, text: str) -> Figures:
    loop = type(asyncio.get_running_loop()).__module__
    return {"number": number, "length": len(text), "uvloop": loop.startswith("uvloop")}


async def fail_there() -> Figures:
    raise ValueError("on purpose")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_fresh_process_runs_a_function_on_the_loop_asked_for(loop: Loop) -> None:
    figures = await in_a_fresh_process(describe_the_process, loop=loop, number=7, text="abc")
    assert figures == {"number": 7, "length": 3, "uvloop": loop == "uvloop"}


async def test_a_failure_in_a_fresh_process_is_one_here() -> None:
    with pytest.raises(RuntimeError, match="fail_there ended with code 1"):
        await in_a_fresh_process(fail_there)


async def test_an_expression_is_evaluated_as_often_as_asked_for() -> None:
    seen: list[int] = []

    async def note(number: int) -> None:
        seen.append(number)

    assert await hit_cases.batch("await note(1)", {"note": note})(3) > 0
    assert await hit_cases.batch("await note(key)", {"note": note, "keys": (5, 6)}, "key in keys[:calls]")(2) > 0
    assert seen == [1, 1, 1, 5, 6]


async def test_each_spelling_of_a_hit_is_measured_with_its_references() -> None:
    figures = await hit_cases.measure(rounds=1, calls=20)
    for spelling in hit_cases.SPELLINGS:
        assert figures[spelling.hit] > 0
        assert figures[spelling.function_hit] > 0
        assert figures[spelling.method_hit] > 0
    assert hit_cases.SPELLINGS[-1].method_hit == "service.cached_two(1, second='two')"


@pytest.mark.parametrize("shape", graph_cases.SHAPES)
async def test_invalidation_of_a_shape_is_measured_per_node(shape: str) -> None:
    figures = await graph_cases.invalidation(shape=shape, nodes=100, rounds=2, budget_s=60)
    assert 0 < figures["cache_clear"] < figures["invalidate"] < 1e6


def test_each_pause_of_the_collector_is_seen() -> None:
    with memory_cases.pauses_ms() as pauses:
        gc.collect(0)
        gc.collect()
    gc.collect()
    assert len(pauses) == 2
    assert all(pause > 0 for pause in pauses)
