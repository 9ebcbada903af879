"""`ComputedState`: a live value that computes itself again, after a delay, whenever it was invalidated.

Invariants: what is shown never gives way to what was looked up before it; and while the state is started and open,
either the computed shown is consistent, or an update is under way or waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, cast

from fusion_cluster.errors import UsageError
from fusion_cluster.failures.failure import is_transient as default_classifier
from fusion_cluster.graph import Computed, isolated
from fusion_cluster.graph.why.cause import Cause, call_site
from fusion_cluster.runtime import SYSTEM, Runtime, is_being_cancelled
from fusion_cluster.runtime.deadline import current_deadline
from fusion_cluster.state.beneath import GraphsBeneath
from fusion_cluster.state.pacing import Pacing
from fusion_cluster.state.single_key import single_key_function, single_key_graph
from fusion_cluster.state.snapshot import Absent, StateSnapshot
from fusion_cluster.state.update_delayer import FixedDelayer, UpdateDelayer

T = TypeVar("T")

log = logging.getLogger(__name__)

_INITIAL: Final = Cause("state", "it was only what is shown before the first computation")
_RETRY: Final = Cause("retry", "it is computed again, after a transient error")


class ComputedState(Generic[T]):
    """A live value: computed at the start, and again, after the delayer's delay, each time it is invalidated.

    >>> async with ComputedState(lambda: carts.total("c1"), update_delayer=FixedDelayer(0.1)) as total:
    ...     async for computed in total.changes():
    ...         show(computed.value)

    `value` is the last one computed, which may be out of date by the delay; `await state` gives one that is up to date,
    and shows it.

    An error is shown like a value. A transient one is tried again after the delayer's delay for that retry, any other
    when it is invalidated, by what it was computed from or by time.

    Close it when it is no longer shown: until then it is kept up to date, and kept.

    Args:
        compute: gives the value; the compute methods that it calls are the dependencies.
        update_delayer: paces the updates; by default a `FixedDelayer()`.
        initial: what to show before the first computation has ended. It is not a computed value: `when` passes it over,
            and `await` never gives it.
        is_transient: tells which errors may go away by themselves.
        name: what it is called in keys and in messages.
        runtime: the clock and the tasks; give it that of the hosts whose services it reads.
    """

    def __init__(
        self,
        compute: Callable[[], Awaitable[T]],
        *,
        update_delayer: UpdateDelayer | None = None,
        initial: T | Absent = Absent.ABSENT,
        is_transient: Callable[[Exception], bool] | None = None,
        name: str = "value",
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._runtime = runtime
        self._compute = compute
        self._graph = single_key_graph(default_classifier if is_transient is None else is_transient, runtime=runtime)
        self._function = single_key_function("ComputedState", name, self._read, self._graph)
        self._beneath = GraphsBeneath(self._function)
        self._pacing = Pacing(
            update_delayer or FixedDelayer(), name=self._function.name, is_transient=self._graph.is_transient
        )
        self._updates: asyncio.Task[None] | None = None
        self._is_closed = False
        self._snapshot: StateSnapshot[T] = StateSnapshot()
        self._newest: Computed[T] | None = None
        self._newest_number = 0
        """What was looked up last, and its number in the order of what was looked up."""
        self._shown_number = 0
        if not isinstance(initial, Absent):
            computed: Computed[T] = self._function.assign_value((), initial)
            self._function.graph.invalidate_now(computed, _INITIAL)
            self._snapshot = StateSnapshot(computed=computed, last_successful=computed)

    def __repr__(self) -> str:
        return f"<ComputedState {self._function.method_name} {self._snapshot.computed}>"

    async def __aenter__(self) -> ComputedState[T]:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, Any, T]:
        """Give a value that is up to date, computed now if need be, without any delay; show it.

        Raises:
            UsageError: the state is closed.
            Exception: the error that the computation ended with.
        """
        node, number = self._look_up()
        if node is self._snapshot.computed:
            return node.__await__()
        return self._read_through(node, number).__await__()

    # -- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to keep the value up to date. Needs a running event loop.

        Raises:
            UsageError: it is closed.
        """
        self._require_open()
        if self._updates is not None:
            return
        with isolated():  # started by a computation, it is not part of it
            self._updates = self._runtime.create_task(self._keep_updated(), name=self._function.name)
        # If its loop is closed under it there is nothing left to be done, and nothing to be warned of.
        cast("Any", self._updates)._log_destroy_pending = False
        self._updates.add_done_callback(self._on_updates_ended)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or has ended with its event loop."""
        return self._is_closed

    async def close(self) -> None:
        """Stop. An update in progress is cancelled and not tried again; those who wait for one get an error.

        What was shown last stays readable. Closing twice does no harm.
        """
        self._end()
        try:
            updates = self._updates
            if updates is None or updates.done() or updates is asyncio.current_task():
                return
            if updates.get_loop().is_closed():
                cast("Coroutine[Any, Any, None]", updates.get_coro()).close()  # it will never be run again
                return
            updates.cancel()
            await asyncio.wait({updates})
        finally:
            await self._graph.close()

    # -- what it shows -----------------------------------------------------------------------------------------------
    @property
    def snapshot(self) -> StateSnapshot[T]:
        """What is shown now: the latest computed, the latest that was no error, and the counts."""
        return self._snapshot

    @property
    def computed(self) -> Computed[T]:
        """The latest computed that has an output.

        Raises:
            UsageError: there is none yet.
        """
        if self._snapshot.computed is None:
            raise UsageError(f"{self._function.name} has not been computed yet: await it first")
        return self._snapshot.computed

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
        """Give what is shown now, if there is something, and each update from now on; a slow reader skips some.

        Ends when the state is closed.
        """
        shown: Computed[T] | None = None
        while (shown := await self._shown_after(shown)) is not None:
            yield shown

    async def when(self, predicate: Callable[[T], bool]) -> Computed[T]:
        """Return the first computed shown, from now on, whose value satisfies `predicate`.

        Inside a computation only the computed returned may become a dependency, when its value is read.

        Raises:
            Exception: a computation ended with this error.
            UsageError: the state was closed.
        """
        shown = self._snapshot.computed if self._snapshot.is_initial else None
        while (shown := await self._shown_after(shown)) is not None:
            with isolated():
                value = shown.value
            if predicate(value):
                return shown
        raise self._closed()

    @property
    def update_delayer(self) -> UpdateDelayer:
        """What paces the updates. Another one, set here, counts from the next delay on."""
        return self._pacing.update_delayer

    @update_delayer.setter
    def update_delayer(self, update_delayer: UpdateDelayer) -> None:
        self._pacing.update_delayer = update_delayer

    # -- what it hears of ---------------------------------------------------------------------------------------------
    def invalidate(self) -> None:
        """Mark the value as out of date; it is updated after the delay, like after any other invalidation."""
        self._function.invalidate((), call_site("state", f"invalidate() of {self._function.name}"))
        self._pacing.end_standing()

    def update_now(self) -> None:
        """End the delay in progress, so that the update begins at once. Without effect on a value that is up to date.

        To have the up-to-date value as well, await the state.
        """
        computed = self._snapshot.computed
        if computed is None or not computed.is_consistent or self._snapshot.retry_count:
            self._pacing.hurry()

    # -- inside: reading ---------------------------------------------------------------------------------------------
    async def _read(self) -> Any:
        self._beneath.begin()
        return await self._compute()

    def _look_up(self) -> tuple[Computed[T], int]:
        """Return the live computed, and its number: one that was looked up later has a greater one."""
        self._require_open()
        node: Computed[T] = self._function.lookup(())
        if node is not self._newest:
            self._newest = node
            self._newest_number += 1
        return node, self._newest_number

    async def _read_through(self, node: Computed[T], number: int) -> T:
        node = await node.update()
        self._show(node, number)
        return node.value

    async def _shown_after(self, shown: Computed[T] | None) -> Computed[T] | None:
        """Return what is shown once it is another one than `shown`; None when there will be none."""
        while (snapshot := self._snapshot).computed is None or snapshot.computed is shown:
            if self._is_closed:
                return None
            await snapshot.next_update.has_come()
        return snapshot.computed

    def _show(self, node: Computed[T], number: int) -> None:
        before = self._snapshot
        if node is before.computed or number < self._shown_number or self._is_closed:
            return
        self._shown_number = number
        with isolated():
            error = node.error
        self._snapshot = before.followed_by(node, is_retried=error is not None and self._pacing.retries(error))
        if node.is_consistent:
            self._pacing.is_hurried = False
        before.next_update.announce()
        self._pacing.interrupt()

    # -- inside: the updates -----------------------------------------------------------------------------------------
    async def _keep_updated(self) -> None:
        current_deadline.set(None)  # that of whoever has started it: a state goes on
        while not self._is_closed:
            await self._update()
            while True:
                snapshot = self._snapshot
                await self._pacing.until_due(snapshot, lambda waiting: waiting is self._snapshot)
                if snapshot is self._snapshot:
                    break  # else a reader has updated it meanwhile, and the wait begins anew
            if self._snapshot.retry_count and self._snapshot.computed is not None:
                self._function.graph.invalidate(self._snapshot.computed, _RETRY)

    async def _update(self) -> None:
        self._pacing.is_hurried = False
        node, number = self._look_up()
        try:
            node = await node.update()
        except asyncio.CancelledError:
            if self._is_closed or is_being_cancelled():
                raise
            log.warning("the computation of %s was cancelled from within", self._function.name)
            self._snapshot = self._snapshot.retried()
        else:
            self._show(node, number)

    # -- inside: the end ---------------------------------------------------------------------------------------------
    def _require_open(self) -> None:
        if self._is_closed:
            raise self._closed()

    def _closed(self) -> UsageError:
        return UsageError(f"{self._function.name} is closed")

    def _end(self) -> None:
        self._is_closed = True
        self._snapshot.next_update.call_off()

    def _on_updates_ended(self, updates: asyncio.Task[None]) -> None:
        self._end()
        if not updates.cancelled() and (error := updates.exception()) is not None:
            log.error("the updates of %s have ended", self._function.name, exc_info=error)
