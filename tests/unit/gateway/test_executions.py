from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.errors import InvalidArgument, Overloaded
from fusion_router.gateway.executions import Executions


class Work:
    """A command that waits to be let go."""

    def __init__(self, result: bytes = b"result") -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.result = result

    async def __call__(self) -> bytes:
        self.runs += 1
        await self.gate.wait()
        return self.result


async def test_an_id_runs_once_and_its_result_is_kept() -> None:
    executions, work = Executions(), Work()
    work.gate.set()
    assert await executions.run("one", b"request", work) == (b"result", False)
    assert await executions.run("one", b"request", work) == (b"result", True)
    assert work.runs == 1


async def test_whoever_leaves_does_not_end_the_command() -> None:
    executions, work = Executions(), Work()
    leaving = asyncio.create_task(executions.run("one", b"request", work))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    work.gate.set()
    assert await executions.run("one", b"request", work) == (b"result", True)
    assert work.runs == 1


async def test_the_oldest_results_are_forgotten_first() -> None:
    executions = Executions(max_kept_bytes=10_000)
    for index in range(10):
        work = Work(b"x" * 1_500)
        work.gate.set()
        await executions.run(str(index), b"", work)
    kept = Work()
    assert (await executions.run("9", b"", kept))[1]
    forgotten = Work()
    forgotten.gate.set()
    assert await executions.run("0", b"", forgotten) == (b"result", False)


async def test_another_request_under_the_same_id_is_refused() -> None:
    executions, work = Executions(), Work()
    running = asyncio.create_task(executions.run("one", b"request", work))
    await asyncio.sleep(0)
    with pytest.raises(InvalidArgument) as caught:
        await executions.run("one", b"other", work)
    assert caught.value.field == "command_id"
    work.gate.set()
    await running


async def test_more_than_may_run_are_refused_with_when_to_retry() -> None:
    executions, work = Executions(max_in_flight=1), Work()
    running = asyncio.create_task(executions.run("one", b"", work))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await executions.run("two", b"", work)
    assert caught.value.retry_after_s
    work.gate.set()
    await running


async def test_closing_waits_for_the_grace_and_then_cancels() -> None:
    executions, work = Executions(), Work()
    running = asyncio.create_task(executions.run("one", b"", work))
    await asyncio.sleep(0)
    await executions.close(0.02)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()
