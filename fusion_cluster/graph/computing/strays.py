"""Tasks and threads of a running body that have a context of their own, as by `create_task(..., context=Context())`.

What reads in such a context is nobody's dependency, while the body may well use what it reads: the result would stay
as it is when that changes. So the event loop of a graph marks the contexts that a body gives to `create_task`, and
those of the threads in which it has something run by `run_in_executor`. A read there is refused for as long as the body
computes. Afterwards it is a read as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, NoReturn, cast
from weakref import ref

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computing.child_tasks import guarded
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.core.context import current_computation, running_computation
from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.core.key import key_of
from fusion_cluster.graph.core.pure.states import COMPUTING, INVALIDATED, OUTDATED


class Stray:
    """Stands for the current computation in the context of a stray task.

    Args:
        node: whose body has made the task.
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node[Any]) -> None:
        self._node: Any = node

    def __call__(self, used: Any) -> None:
        """Hear that the output of `used` is read.

        Raises:
            UsageError: the body still computes.
        """
        self._check(f"reads {key_of(used)}")

    @property
    def _state(self) -> int:
        self._check("reads compute methods")
        return INVALIDATED

    @property
    def _computation(self) -> None:
        self._check("reads compute methods")

    def _check(self, what: str) -> None:
        node = self._node
        if node is not None and node._state in (COMPUTING, OUTDATED):
            _refuse(node, what)
        self._node = None


def watch_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have the contexts marked that bodies give to tasks and threads, and their tasks guarded, from now on."""
    if hasattr(loop.create_task, "marks_strays"):
        return
    kind: Any = type(loop)
    running = ref(loop)  # the loop holds what is put into it here, which must not hold the loop

    def create_task(coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any]
        if not options:  # as nearly always: every task of the program comes by here
            task = kind.create_task(running(), guarded(coroutine))
            return task
        context = options.get("context")
        if context is not None:
            _mark(context)
        task = kind.create_task(running(), guarded(coroutine), **options)
        return task

    def run_in_executor(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        if _maker() is not None and (executor is None or isinstance(executor, ThreadPoolExecutor)):
            context = Context()
            _mark(context)
            function = partial(context.run, function)
        return kind.run_in_executor(running(), executor, function, *args)

    create_task.marks_strays = True  # type: ignore[attr-defined]
    with suppress(AttributeError):  # a loop that cannot be told
        loop.create_task = create_task  # type: ignore[method-assign,assignment]
        loop.run_in_executor = run_in_executor  # type: ignore[method-assign,assignment]


def _mark(context: Context) -> None:
    maker = _maker()
    if maker is None:
        return
    if context.get(current_computation, _ABSENT) is _ABSENT or isinstance(context[current_computation], Stray):
        context.run(current_computation.set, cast("Any", Stray(maker)))


def _maker() -> Node[Any] | None:
    """The computation whose body runs here, if what it reads is a dependency: not under `isolated()`."""
    return None if current_computation.get() is None else running_computation.get()


_ABSENT: Any = object()


def _refuse(node: Any, what: str) -> NoReturn:
    function: Function[Any] = node.function
    raise UsageError(
        f"a task or thread that {key_of(node)} has made, in a context of its own, {what}, and {function.name} would "
        "not be told when that changes: leave out context=, copy the context (contextvars.copy_context()), use "
        "asyncio.to_thread, or make it under isolated()"
    )
