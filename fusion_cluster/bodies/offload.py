"""Where bodies run: on the event loop, in a thread, or as a task that may be far away.

One `Bodies` for each host: it owns the threads, because the bound on them is one of its resources. (The event loop's
default executor is shared with look-ups of host names and with whatever else a program hands to it: bodies that wait
would hold those up, and it cannot let a body that waits give up its place.)
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import Any, Protocol

from fusion_cluster.bodies.crossing import Crossing, Outcome
from fusion_cluster.bodies.facade import FacadeClasses
from fusion_cluster.bodies.ports import AwaitingPort, BlockingPort, LoopPort, StrandedPort
from fusion_cluster.bodies.threads import Job, Threads, default_max_running
from fusion_cluster.catalogue.members import service_methods
from fusion_cluster.catalogue.method import AsyncBody, Method
from fusion_cluster.catalogue.options import RayTask
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.service_method import ServiceMethod
from fusion_cluster.errors import Overloaded, UsageError
from fusion_cluster.graph.core.context import running_task_name

BodyWrapper = Callable[[AsyncBody, Method, ComputeService], AsyncBody]
"""Puts something around a body; it gets the method and the instance too."""


@dataclass(frozen=True)
class TaskBody:
    """One run of a body that needs nothing but its code and its arguments.

    Attributes:
        service: the service class.
        method: name of the method.
        args: its arguments by position.
        kwargs: its arguments by name.
    """

    service: type[ComputeService]
    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method's full name."""
        return f"{self.service.service_name}.{self.method}"

    def run(self) -> Any:
        """Run the body here, on an instance made for it, with an event loop of its own if it is an `async def`."""
        if inspect.iscoroutinefunction(service_methods(self.service)[self.method].body):
            return asyncio.run(self.call())
        return _checked(self.call(), self.name)

    def call(self) -> Any:
        """Call the body on an instance made for it."""
        running_task_name.set(self.name)
        stranded = StrandedPort(FacadeClasses(), self.name).facade(self.service())
        return service_methods(self.service)[self.method].body(stranded, *self.args, **self.kwargs)


class TaskRunner(Protocol):
    """Runs bodies somewhere else, with the resources they ask for."""

    def run(self, task: RayTask, body: TaskBody) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that runs `body` and gives what it returns.

        Cancelling it gives up the task. Errors of the body come back as themselves.

        Raises:
            WorkerLost: the process that ran it is gone.
        """
        ...


class Bodies:
    """Runs the bodies of a host: on its loop, in threads, as tasks, each with what is put around it.

    Args:
        max_threads: how many bodies run in threads at a time; those that wait for another computation do not count.
        wrap: puts something around each body, once, when its service is attached.

    Attributes:
        task_runner: what runs bodies with `offload=RayTask(...)`; a thread while it is None.

    Raises:
        UsageError: the number of threads makes no sense.
    """

    def __init__(self, *, max_threads: int | None = None, wrap: BodyWrapper | None = None) -> None:
        self.threads = Threads(default_max_running() if max_threads is None else max_threads)
        self.task_runner: TaskRunner | None = None
        self._wrap = wrap
        self._classes = FacadeClasses()

    def body(self, method: Method, descriptor: ServiceMethod, instance: ComputeService) -> AsyncBody:
        """Return the body of a method as hosts call it: bound to `instance`, run where its options say, wrapped.

        Args:
            method: the method.
            descriptor: the method as written.
            instance: its service.
        """
        body = descriptor.completed(self._place(method, descriptor.body, instance))
        return body if self._wrap is None else self._wrap(body, method, instance)

    def _place(self, method: Method, body: Callable[..., Any], instance: ComputeService) -> AsyncBody:
        name, offload = method.name, method.options.offload
        if method.kind != "compute":
            return MethodType(body, instance)
        is_async = inspect.iscoroutinefunction(body)
        if isinstance(offload, RayTask):
            return partial(self._run_as_task, offload, type(instance), method.method_name, is_async)
        if is_async:
            return partial(self._run_async, body, instance, name) if offload else MethodType(body, instance)
        return partial(self._run_plain if offload else self._run_on_loop, body, instance, name)

    # -- on the loop -------------------------------------------------------------------------------------------------
    async def _run_on_loop(
        self, body: Callable[..., Any], instance: ComputeService, name: str, /, *args: Any, **kwargs: Any
    ) -> Any:
        facade = LoopPort(self._classes, name).facade(instance)
        return _checked(body(facade, *args, **kwargs), name)

    # -- in a thread -------------------------------------------------------------------------------------------------
    async def _run_plain(
        self, body: Callable[..., Any], instance: ComputeService, name: str, /, *args: Any, **kwargs: Any
    ) -> Any:
        crossing = Crossing()
        facade = BlockingPort(self._classes, crossing, name, self.threads).facade(instance)
        context = crossing.thread_context()
        return await self._in_thread(crossing, lambda: _checked(context.run(body, facade, *args, **kwargs), name))

    async def _run_async(
        self, body: AsyncBody, instance: ComputeService, name: str, /, *args: Any, **kwargs: Any
    ) -> Any:
        crossing = Crossing()
        port = AwaitingPort(self._classes, crossing, name)
        facade = port.facade(instance)

        async def main() -> Any:
            try:
                return await body(facade, *args, **kwargs)
            finally:
                await port.dispose()

        return await self._in_thread(crossing, partial(self._run_loop, crossing, crossing.thread_context(), main))

    async def _in_thread(self, crossing: Crossing, body: Callable[[], Any]) -> Any:
        job = Job(
            lambda: crossing.end(Outcome.of(body)),
            lambda error: crossing.end(Outcome(error=Overloaded(f"there can be no more threads: {error}"))),
        )
        self.threads.start(job)
        try:
            return await crossing.run()
        finally:
            self.threads.cancel(job)

    def _run_loop(self, crossing: Crossing, context: Context, main: AsyncBody) -> Any:
        """In a thread: run `main` on an event loop of its own, until it ends or nobody waits for it any more."""
        with asyncio.Runner(loop_factory=partial(_new_loop, self.threads)) as runner:
            return runner.run(_cancelled_with(crossing, main), context=context)

    # -- as a task ---------------------------------------------------------------------------------------------------
    async def _run_as_task(
        self, task: RayTask, service: type[ComputeService], method: str, is_async: bool, /, *args: Any, **kwargs: Any
    ) -> Any:
        body = TaskBody(service, method, args, kwargs)
        if self.task_runner is not None:
            return await self.task_runner.run(task, body)
        crossing = Crossing()
        context = crossing.thread_context(is_task=True)
        if is_async:
            return await self._in_thread(crossing, partial(self._run_loop, crossing, context, body.call))
        return await self._in_thread(crossing, partial(context.run, body.run))


class _PatientSelector(selectors.DefaultSelector):
    """Gives up the thread's place while its event loop has nothing to do."""

    def __init__(self, threads: Threads) -> None:
        super().__init__()
        self._threads = threads

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        with self._threads.waiting():
            return super().select(timeout)


def _new_loop(threads: Threads) -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(_PatientSelector(threads))


async def _cancelled_with(crossing: Crossing, main: AsyncBody) -> Any:
    """Run `main` in this task, which is cancelled when nobody waits for it any more."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):  # it has ended, and its loop is closed
            loop.call_soon_threadsafe(task.cancel, context=Context())

    crossing.on_closed(cancel)
    return await main()


def _checked(value: object, name: str) -> object:
    """Return what a plain `def` has returned, unless that has to be awaited."""
    if not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    raise UsageError(f"{name} is a plain def that returned something to await: make it an async def")
