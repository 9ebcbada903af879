"""`MutableState`: a value that is set by hand, at the root of what depends on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import replace
from typing import Any, Generic, TypeVar

from fusion_cluster.errors import UsageError
from fusion_cluster.failures.failure import Failure
from fusion_cluster.graph import Computed, isolated
from fusion_cluster.graph.computing.equality import is_equal
from fusion_cluster.graph.why.cause import REPLACED, Cause, call_site
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.state.single_key import single_key_function, single_key_graph
from fusion_cluster.state.snapshot import StateSnapshot

T = TypeVar("T")


class MutableState(Generic[T]):
    """A value set by hand. What reads it in a computation depends on it, and is invalidated when it is set.

    >>> rate = MutableState(1.1)
    >>> class Prices(ComputeService):
    ...     @compute_method
    ...     async def in_dollars(self, euros: float) -> float:
    ...         return euros * rate.value

    Args:
        value: the first value.
        name: what it is called in keys and in messages.
        runtime: the clock that dates what happens to it, and its random numbers.
    """

    def __init__(self, value: T, *, name: str = "value", runtime: Runtime = SYSTEM) -> None:
        self._function = single_key_function("MutableState", name, self._read, single_key_graph(runtime=runtime))
        self._value = value
        self._error: Exception | None = None
        self._last_successful: Computed[T] | None = None
        """The last computed that was no error, while there is an error."""
        self._update_count = 0
        self._error_count = 0
        self._snapshot: StateSnapshot[T] | None = None
        """The snapshot of now, if somebody has asked for it."""

    def __repr__(self) -> str:
        holds = repr(self._value) if self._error is None else repr(self._error)
        return f"<MutableState {self._function.method_name} = {holds}>"

    def __await__(self) -> Generator[Any, Any, T]:
        return self.computed.__await__()

    @property
    def computed(self) -> Computed[T]:
        """The computed that stands for the present value; consistent."""
        return self._function.peek(()) or self._put()

    @property
    def value(self) -> T:
        """The present value; a dependency of the computation that reads it.

        Raises:
            Exception: the error that was set.
        """
        return self.computed.value

    @property
    def error(self) -> Exception | None:
        """The error that was set, None when a value was."""
        return self.computed.error

    @property
    def snapshot(self) -> StateSnapshot[T]:
        """What it holds now: the present computed, the latest that was no error, and the counts."""
        computed = self.computed
        if self._snapshot is None:
            self._snapshot = StateSnapshot(update_count=self._update_count, error_count=self._error_count)
        if self._snapshot.computed is not computed:  # or it was invalidated by hand, and stands for the same as before
            last_successful = computed if self._error is None else self._last_successful
            self._snapshot = replace(self._snapshot, computed=computed, last_successful=last_successful)
        return self._snapshot

    # -- changes -----------------------------------------------------------------------------------------------------
    def set(self, value: T) -> None:
        """Set the value. An equal one changes nothing and invalidates nothing.

        A value that was changed in place is equal to itself: say `update(lambda value: value)` then.
        """
        if self._error is None and is_equal(self._value, value):
            return
        self._value, self._error, self._last_successful = value, None, None
        self._on_changed(call_site("state", f"set() of {self._function.name}"))

    def update(self, updater: Callable[[T], T]) -> None:
        """Set the value to `updater(value)`; this always invalidates, also when the result is equal.

        Raises:
            Exception: the error that was set, or what `updater` raises; nothing changes then.
        """
        if self._error is not None:
            Failure(self._error).throw()
        self._value = updater(self._value)
        self._on_changed(call_site("state", f"update() of {self._function.name}"))

    def set_error(self, error: Exception) -> None:
        """Set an error, which every read raises until the next `set`. The very error that it holds changes nothing.

        Raises:
            UsageError: it is not an `Exception`.
        """
        if not isinstance(error, Exception):
            raise UsageError(f"a state holds a value or an Exception, not {error!r}", field="error")
        if self._error is error:
            return
        if self._error is None:
            self._last_successful = self.computed
        self._error = error
        self._error_count += 1
        self._on_changed(call_site("state", f"set_error() of {self._function.name}"))

    # -- for those who follow it -------------------------------------------------------------------------------------
    async def changes(self) -> AsyncIterator[Computed[T]]:
        """Give the present computed now, and another after each change; a slow reader skips some."""
        while True:
            computed = self.computed
            yield computed
            await computed.when_invalidated()

    async def when(self, predicate: Callable[[T], bool]) -> Computed[T]:
        """Return the first computed, from now on, whose value satisfies `predicate`.

        Inside a computation only the computed returned may become a dependency, when its value is read.

        Raises:
            Exception: the error that was set.
        """
        while True:
            computed = self.computed
            with isolated():
                value = computed.value
            if predicate(value):
                return computed
            await computed.when_invalidated()

    # -- inside ------------------------------------------------------------------------------------------------------
    async def _read(self) -> Any:
        """Give the value again after somebody has invalidated the computed by hand."""
        if self._error is not None:
            Failure(self._error).throw()
        return self._value

    def _on_changed(self, cause: Cause) -> None:
        """Let the new output take the place of the old one."""
        self._update_count += 1
        before, self._snapshot = self._snapshot, None
        self._put(cause)
        if before is not None:
            before.next_update.announce()

    def _put(self, cause: Cause = REPLACED) -> Computed[T]:
        """Replace the computed by a new one with the present value or error."""
        if self._error is not None:
            return self._function.assign_error((), self._error, cause)
        return self._function.assign_value((), self._value, cause)
