"""`gather`: like `asyncio.gather`, but a consistent computed costs no task, and a computing one costs no second one."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable
from typing import Any, Literal, TypeVar, overload

from fusion_cluster.errors import CircularDependencyError, FusionError
from fusion_cluster.graph.computed import Computed
from fusion_cluster.graph.computing.computation import Waiter
from fusion_cluster.graph.computing.surroundings import runtime_of
from fusion_cluster.graph.computing.waiting import enter
from fusion_cluster.graph.core.context import current_computation
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, capture

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


@overload
async def gather(a: Awaitable[T1], /, *, return_exceptions: Literal[False] = False) -> tuple[T1]: ...
@overload
async def gather(
    a: Awaitable[T1], b: Awaitable[T2], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2]: ...
@overload
async def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2, T3]: ...
@overload
async def gather(
    a: Awaitable[T1],
    b: Awaitable[T2],
    c: Awaitable[T3],
    d: Awaitable[T4],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def gather(
    a: Awaitable[T1],
    b: Awaitable[T2],
    c: Awaitable[T3],
    d: Awaitable[T4],
    e: Awaitable[T5],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def gather(*awaitables: Awaitable[T], return_exceptions: Literal[False] = False) -> list[T]: ...
@overload
async def gather(*awaitables: Awaitable[T], return_exceptions: Literal[True]) -> list[T | BaseException]: ...


async def gather(*awaitables: Awaitable[Any], return_exceptions: bool = False) -> Any:
    """Await all at once; return their results in order, as a list.

    Consistent computeds are read in place; the others are computed at the same time, each by its own computation.
    Anything else that can be awaited is run in a task, as `asyncio.gather` does.

    The first error is raised at once. Computeds are then left, which cancels those that nobody else waits for; tasks go
    on, as with `asyncio.gather`. When the caller is cancelled, both are cancelled.

    Args:
        awaitables: what to wait for.
        return_exceptions: give errors as results instead of raising the first.
    """
    dependent = current_computation.get()
    results: list[Any] = []
    for awaitable in awaitables:  # most often all are there
        if type(awaitable) is not Computed or awaitable._state != CONSISTENT:
            break
        try:
            value = awaitable._value
        except AttributeError:
            break
        if dependent is not None:
            capture(dependent, awaitable)
        results.append(value)
    else:
        return results
    gathering = _Gathering(dependent, return_exceptions, results)
    try:
        for index in range(len(results), len(awaitables)):
            gathering.add(index, awaitables[index])
        while gathering.is_waiting:
            await gathering.wait()
            gathering.go_on()
    except asyncio.CancelledError:
        gathering.cancel()
        raise
    finally:
        gathering.leave()
    return gathering.outcome()


class _Gathering:
    """What one `gather` still waits for, and what it has."""

    def __init__(self, dependent: Node[Any] | None, return_exceptions: bool, results: list[Any]) -> None:
        self.missing = 0
        self._dependent = dependent
        self._return_exceptions = return_exceptions
        self._results = results
        self._error: BaseException | None = None
        # Index -> the wait for what is there; it may have ended.
        self._waiters: dict[int, Waiter] = {}
        self._varying: list[tuple[int, Computed[Any]]] = []
        self._tasks: dict[Awaitable[Any], asyncio.Future[Any]] = {}
        self._done: asyncio.Future[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether something is missing, and nothing has failed."""
        return self.missing > 0 and self._error is None

    def add(self, index: int, awaitable: Awaitable[Any]) -> None:
        self._results.append(None)
        if isinstance(awaitable, Computed):
            self._add_computed(index, awaitable)
            return
        task = self._tasks.get(awaitable)
        if task is None:
            runtime = runtime_of(self._dependent)
            task = self._tasks[awaitable] = runtime.ensure_future(awaitable, name="gather")
        self.missing += 1
        task.add_done_callback(functools.partial(self._on_task_done, index))

    async def wait(self) -> None:
        """Wait until nothing is missing, one has failed, or one has turned out to vary."""
        if self._error is None and not self._varying:
            self._done = asyncio.get_running_loop().create_future()
            await self._done

    def go_on(self) -> None:
        """Look again for those that have turned out to vary: now they are the reader's own."""
        varying, self._varying = self._varying, []
        for index, node in varying:
            self.missing -= 1
            if self._error is None:
                self._add_computed(index, node.function.lookup(node.arguments))

    def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def leave(self) -> None:
        for waiter in self._waiters.values():
            waiter.leave()

    def outcome(self) -> list[Any]:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._results

    # -- inside ------------------------------------------------------------------------------------------------------
    def _add_computed(self, index: int, computed: Computed[Any]) -> None:
        node = computed._or_current(self._dependent)
        if node.has_output:
            self._read(index, node)
            return
        self.missing += 1
        try:
            waiter = enter(node, self._dependent, functools.partial(self._on_computed, index))
        except CircularDependencyError as error:
            self.missing -= 1
            self._fail(index, error)
            return
        self._waiters[index] = waiter

    def _read(self, index: int, node: Computed[Any]) -> None:
        if self._dependent is not None:
            capture(self._dependent, node)
        if node._failure is not None:
            self._fail(index, node._failure.to_raise())
        else:
            self._give(index, node)

    def _give(self, index: int, node: Computed[Any]) -> None:
        try:
            self._results[index] = node._handed_out()
        except FusionError as error:  # its guard does not give it
            self._fail(index, error)

    def _on_computed(self, index: int, node: Computed[Any]) -> None:
        waiter = self._waiters.get(index)
        if waiter is not None and waiter.refused is not None:
            self.missing -= 1
            self._fail(index, CircularDependencyError(waiter.refused))
            self._check()
            return
        if not node.has_output and node.function.variants is not None:
            self._varying.append((index, node))  # not here: whoever has found it out reads for somebody else
            self._check()
            return
        self.missing -= 1
        if node.has_output:
            self._read(index, node)
        else:
            self._fail(index, node.function.graph.no_output())
        self._check()

    def _on_task_done(self, index: int, task: asyncio.Future[Any]) -> None:
        self.missing -= 1
        if task.cancelled():
            self._fail(index, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._fail(index, error)
        else:
            self._results[index] = task.result()
        self._check()

    def _fail(self, index: int, error: BaseException) -> None:
        if self._return_exceptions:
            self._results[index] = error
        elif self._error is None:
            self._error = error

    def _check(self) -> None:
        done = self._done
        if done is not None and not done.done() and (not self.missing or self._error is not None or self._varying):
            done.set_result(None)
