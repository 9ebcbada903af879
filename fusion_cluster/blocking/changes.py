"""The graph for callers without an event loop: views of computeds, and iterators over changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from fusion_cluster.blocking.portal import Portal
from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.graph import Computed, Key, isolated
from fusion_cluster.graph.why.cause import from_here

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_END: Final = object()


class ComputedView(Generic[T_co]):
    """A view of a computed with an output, for use in any thread.

    The output never changes. `is_consistent` does.
    """

    __slots__ = ("_computed", "_portal")

    def __init__(self, computed: Computed[T_co], portal: Portal) -> None:
        self._computed = computed
        self._portal = portal

    def __repr__(self) -> str:
        return repr(self._computed)

    @property
    def key(self) -> Key:
        """Service, method and canonical arguments."""
        return self._computed.key

    @property
    def version(self) -> int:
        """A number that is unique to this computed in its graph."""
        return self._computed.version

    @property
    def is_consistent(self) -> bool:
        """Whether it is up to date, as far as this process knows at this moment."""
        return self._computed.is_consistent

    @property
    def value(self) -> T_co:
        """The value, also of an invalidated computed.

        Raises:
            Exception: the error that the computation ended with.
        """
        if self._computed.has_output:
            with isolated():
                return self._computed.value
        return self._portal.run(lambda: self._computed)  # the value was paged out meanwhile

    @property
    def error(self) -> Exception | None:
        """The error that the computation ended with; None if it gave a value."""
        with isolated():
            return self._computed.error

    def invalidate(self) -> None:
        """Mark it and its transitive dependents as out of date."""
        self._portal.run(from_here(self._computed.invalidate))

    def when_invalidated(self, timeout_s: float | None = None) -> None:
        """Wait until it is out of date.

        Raises:
            DeadlineExceeded: the time is up.
        """
        self._portal.run(self._computed.when_invalidated, timeout_s=timeout_s)

    def update(self, timeout_s: float | None = None) -> ComputedView[T_co]:
        """Return the up-to-date computed of the same key: this one if it is up to date. Does not raise its error.

        Raises:
            DeadlineExceeded: the time is up.
        """
        latest = self._portal.run(self._computed.update, timeout_s=timeout_s)
        return self if latest is self._computed else ComputedView(latest, self._portal)


class BlockingIterator(Generic[T_co]):
    """Iterates over the items of an async iterator, from any thread.

    Call `close()` to stop before the end; leaving a `for` loop does that.

    >>> for computed in carts.total.changes("c1"):
    ...     print(computed.value)

    Args:
        start: makes the async iterator, on the loop.
        portal: the way to the loop.
        convert: converts each item; None: items are given as they are.
    """

    def __init__(
        self, start: Callable[[], AsyncIterator[Any]], portal: Portal, convert: Callable[[Any], T_co] | None = None
    ) -> None:
        self._start = start
        self._portal = portal
        self._convert = convert
        self._source: AsyncIterator[Any] | None = None
        self._pending: asyncio.Task[Any] | None = None
        self._is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        return self.next()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._source is not None and not self._is_closed:
            self._portal.tell(partial(_close, self._portal, self._source, self._pending))

    def next(self, timeout_s: float | None = None) -> T_co:
        """Wait for the next item. After `DeadlineExceeded` it can be called again, and no item is lost.

        Raises:
            DeadlineExceeded: the time is up.
            StopIteration: the iterator was closed, or the items have ended.
        """
        if self._is_closed:
            raise StopIteration
        item: Any = self._portal.run(self._advance, timeout_s=timeout_s)
        if item is _END:
            self._is_closed = True
            raise StopIteration
        converted: T_co = item if self._convert is None else self._convert(item)
        return converted

    def close(self) -> None:
        """Stop the iteration, also for another thread that waits in `next`."""
        self._is_closed = True
        if self._source is not None:
            self._portal.tell(partial(_close, self._portal, self._source, self._pending))

    # -- on the loop -------------------------------------------------------------------------------------------------
    async def _advance(self) -> Any:
        if self._source is None:
            self._source = self._start()
        if self._pending is None:
            self._pending = self._portal.spawn(_next_of(self._source))
        pending = self._pending
        await asyncio.wait([pending])  # if the caller gives up, `pending` goes on for its next try
        if self._pending is pending:
            self._pending = None
        if not pending.cancelled():
            return pending.result()
        if self._is_closed:
            return _END
        raise ShardUnavailable("the call was cancelled on the event loop", retry_after_s=0.05)


def _close(portal: Portal, source: AsyncIterator[Any], pending: asyncio.Task[Any] | None) -> None:
    if pending is not None:
        pending.cancel()  # this ends the generator as well
    elif isinstance(source, AsyncGenerator):
        portal.spawn(source.aclose())


async def _next_of(source: AsyncIterator[Any]) -> Any:
    try:
        return await anext(source)
    except StopAsyncIteration:
        return _END


def changes_of(start: Callable[[], AsyncIterator[Computed[T]]], portal: Portal) -> BlockingIterator[ComputedView[T]]:
    """Iterate over computeds; a slow reader skips some."""
    return BlockingIterator(start, portal, partial(_view, portal))


def _view(portal: Portal, computed: Computed[T]) -> ComputedView[T]:
    return ComputedView(computed, portal)
