"""`ComputedState`: a live value that computes itself again, after a delay, whenever it was invalidated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, TypeVar

from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Computed, ComputeFunction, Graph, GraphHosting, Signature
from fusion_cluster.graph.context import current_computation, running_computation
from fusion_cluster.state.update_delayer import FixedDelayer, UpdateDelayer

T = TypeVar("T")

log = logging.getLogger(__name__)


class ComputedState(Generic[T]):
    """A live value: computed at the start, and again, after the delayer's delay, each time it is invalidated.

    >>> async with ComputedState(lambda: carts.total("c1"), update_delayer=FixedDelayer(0.1)) as total:
    ...     async for computed in total.changes():
    ...         show(computed.value)

    `value` is the last one computed, which may be out of date by the delay; `await state` gives one that is up to date.

    Args:
        compute: gives the value; the compute methods that it calls are the dependencies.
        update_delayer: paces the updates.
        name: what it is called in keys and in messages.
    """

    def __init__(
        self, compute: Callable[[], Awaitable[T]], *, update_delayer: UpdateDelayer | None = None, name: str = "value"
    ) -> None:
        hosting = GraphHosting(Graph(max_nodes=1))
        self._compute = compute
        self._delayer = update_delayer or FixedDelayer()
        self._function = ComputeFunction(
            service_name="ComputedState",
            method_name=name,
            signature=Signature(ComputedState._read, f"ComputedState.{name}"),
            body=self._read,
            hosting=hosting,
            graph=hosting.graph,
        )
        hosting.graph.add(self._function)
        self._latest: Computed[T] | None = None
        self._next: asyncio.Future[None] | None = None
        self._updates: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ComputedState {self._function.method_name} {self._latest}>"

    async def __aenter__(self) -> ComputedState[T]:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, Any, T]:
        node: Computed[T] = self._function.lookup(())
        return node.__await__()

    # -- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to keep the value up to date. Needs a running event loop.

        Raises:
            UsageError: it was closed.
        """
        if self._function.graph.is_closed:
            raise UsageError("this ComputedState is closed")
        if self._updates is None:
            context = copy_context()
            context.run(current_computation.set, None)
            context.run(running_computation.set, None)
            self._updates = asyncio.get_running_loop().create_task(
                self._keep_updated(), name=self._function.name, context=context
            )

    async def close(self) -> None:
        """Stop. An update in progress is cancelled and not tried again; the last value stays readable."""
        updates, self._updates = self._updates, None
        if updates is not None:
            updates.cancel()
            await asyncio.wait({updates})
        await self._function.graph.close()
        self._wake_readers()

    # -- what it shows -----------------------------------------------------------------------------------------------
    @property
    def computed(self) -> Computed[T]:
        """The last computed that has an output.

        Raises:
            UsageError: there is none yet.
        """
        if self._latest is None:
            raise UsageError(f"{self._function.name} has not been computed yet: await it first")
        return self._latest

    @property
    def value(self) -> T:
        """The last value, which may be out of date by the delay.

        Raises:
            UsageError: there is none yet.
            Exception: the error that the last computation ended with.
        """
        return self.computed.value

    @property
    def error(self) -> Exception | None:
        """The error that the last computation ended with, None when it gave a value."""
        return self.computed.error

    async def changes(self) -> AsyncIterator[Computed[T]]:
        """Give the last computed, if there is one, and each update from now on; a slow reader skips some.

        Ends when the state is closed.
        """
        shown: Computed[T] | None = None
        while True:
            if self._latest is not None and self._latest is not shown:
                shown = self._latest
                yield shown
            elif self._function.graph.is_closed:
                return
            else:
                await self._next_update()

    async def when(self, predicate: Callable[[T], bool]) -> Computed[T]:
        """Return the first computed shown, from now on, whose value satisfies `predicate`.

        Raises:
            Exception: a computation ended with this error.
            UsageError: the state was closed.
        """
        async for computed in self.changes():
            if predicate(computed.value):
                return computed
        raise UsageError("this ComputedState is closed")

    # -- inside ------------------------------------------------------------------------------------------------------
    async def _read(self) -> Any:
        return await self._compute()

    async def _keep_updated(self) -> None:
        retry_count = 0
        while True:
            node: Computed[T] = self._function.lookup(())
            try:
                node = await node.update()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.warning("the computation of %s was cancelled from within", self._function.name)
                retry_count += 1
            else:
                is_retry = node.error is not None and self._is_transient(node.error)
                retry_count = retry_count + 1 if is_retry else 0
                self._show(node)
                await node.when_invalidated()
            await self._delayer.delay(retry_count)

    def _is_transient(self, error: Exception) -> bool:
        try:
            return self._function.graph.is_transient(error)
        except Exception:
            return True

    def _show(self, node: Computed[T]) -> None:
        self._latest = node
        self._wake_readers()

    def _wake_readers(self) -> None:
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def _next_update(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)
