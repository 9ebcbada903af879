"""Task scopes: what they began ends with them, failures are reported, nothing begins after their end."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from fusion_cluster.errors import InvariantViolation
from fusion_cluster.runtime import SYSTEM, TaskScope, is_being_cancelled

asker: contextvars.ContextVar[str] = contextvars.ContextVar("asker", default="nobody")


async def for_ever() -> None:
    await asyncio.Event().wait()


async def who_asks() -> str:
    return asker.get()


async def fail() -> None:
    raise LookupError("as planned")


@pytest.fixture
def scope() -> TaskScope:
    return SYSTEM.scope("the link")


async def test_a_closed_scope_has_no_task_that_runs(scope: TaskScope) -> None:
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0)
            ended.append("stubborn")

    tasks = [scope.spawn(stubborn(), name="stay"), scope.start(for_ever(), name="wait")]
    await asyncio.sleep(0)
    assert list(scope.tasks) == tasks
    await scope.close()
    assert all(task.cancelled() for task in tasks)
    assert ended == ["stubborn"]
    assert not scope.tasks


async def test_closing_ends_what_its_tasks_begin_meanwhile(scope: TaskScope) -> None:
    refused: list[str] = []

    async def begin_another() -> None:
        try:
            await for_ever()
        finally:
            try:
                scope.spawn(for_ever(), name="begin another")
            except InvariantViolation as error:
                refused.append(str(error))

    scope.spawn(begin_another(), name="begin")
    await asyncio.sleep(0)
    await scope.close()
    assert refused == ["the link is closed: it cannot begin another"]
    assert not scope.tasks


async def test_nothing_begins_in_a_closed_scope(scope: TaskScope) -> None:
    await scope.close()
    await scope.close()
    with pytest.raises(InvariantViolation, match="the link is closed: it cannot dial"):
        scope.start(for_ever(), name="dial")  # its coroutine is closed, or a warning would fail the test


async def test_a_failure_in_the_background_is_reported_and_ends_nothing_else(
    scope: TaskScope, caplog: pytest.LogCaptureFixture
) -> None:
    other = scope.spawn(for_ever(), name="wait")
    await asyncio.wait([scope.spawn(fail(), name="redial")])
    assert "the link: redial has failed" in caplog.text
    assert "as planned" in caplog.text
    assert list(scope.tasks) == [other]
    await scope.close()


async def test_a_failure_that_somebody_awaits_is_theirs(scope: TaskScope, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LookupError, match="as planned"):
        await scope.start(fail(), name="dial")
    assert not caplog.records
    await scope.close()


async def test_a_task_in_the_background_inherits_nothing_and_one_that_is_awaited_its_callers_context(
    scope: TaskScope,
) -> None:
    asker.set("a caller")
    assert await scope.spawn(who_asks(), name="ask") == "nobody"
    assert await scope.start(who_asks(), name="ask") == "a caller"
    context = contextvars.copy_context()
    context.run(asker.set, "another")
    assert await scope.spawn(who_asks(), name="ask", context=context) == "another"
    await scope.close()


async def test_a_scope_can_be_closed_by_one_of_its_tasks(scope: TaskScope) -> None:
    async def close() -> str:
        await scope.close()
        return "closed"

    waiting = scope.spawn(for_ever(), name="wait")
    assert await scope.spawn(close(), name="close") == "closed"
    assert waiting.cancelled()


async def test_cancelling_all_does_not_close(scope: TaskScope) -> None:
    waiting = scope.spawn(for_ever(), name="wait")
    scope.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await scope.start(who_asks(), name="ask") == "nobody"
    await scope.close()


async def test_only_who_is_cancelled_from_outside_is_told_so() -> None:
    found: list[bool] = []

    async def look(future: asyncio.Future[None]) -> None:
        try:
            await future
        except asyncio.CancelledError:
            found.append(is_being_cancelled())

    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(look(future))
    await asyncio.sleep(0)
    future.cancel()
    await task
    task = asyncio.create_task(look(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert found == [False, True]


def test_outside_of_a_task_a_cancellation_comes_from_outside() -> None:
    async def main() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: found.set_result(is_being_cancelled()))
        return await found

    assert asyncio.run(main())


async def test_gathering_raises_the_failure_and_not_that_another_has_cancelled_itself() -> None:
    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(LookupError, match="as planned"):
        await SYSTEM.gather([cancel_itself(), fail()], name="gather")
    with pytest.raises(asyncio.CancelledError):
        await SYSTEM.gather([cancel_itself(), asyncio.sleep(0)], name="gather")
