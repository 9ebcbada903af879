"""`MutableState`: a value that is set by hand, at the root of what depends on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, TypeVar, cast

from fusion_cluster.graph import Computed, ComputeFunction, Graph, GraphHosting, Signature

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
    """

    def __init__(self, value: T, *, name: str = "value") -> None:
        hosting = GraphHosting(Graph(max_nodes=1))
        self._function = ComputeFunction(
            service_name="MutableState",
            method_name=name,
            signature=Signature(MutableState._read, f"MutableState.{name}"),
            body=self._read,
            hosting=hosting,
            graph=hosting.graph,
        )
        hosting.graph.add(self._function)
        self._value = value
        self._error: Exception | None = None

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

    def set(self, value: T) -> None:
        """Set the value. An equal one changes nothing and invalidates nothing."""
        if self._error is None and _is_equal(self._value, value):
            return
        self._value, self._error = value, None
        self._put()

    def update(self, updater: Callable[[T], T]) -> None:
        """Set the value to `updater(value)`; this always invalidates, also when the result is equal.

        Raises:
            Exception: the error that was set, or what `updater` raises; nothing changes then.
        """
        if self._error is not None:
            raise self._error
        self._value = updater(self._value)
        self._put()

    def set_error(self, error: Exception) -> None:
        """Set an error, which every read raises until the next `set`."""
        self._error = error
        self._put()

    def changes(self) -> AsyncIterator[Computed[T]]:
        """Give the present computed now, and another after each change; a slow reader skips some."""
        return self.computed.changes()

    async def when(self, predicate: Callable[[T], bool]) -> Computed[T]:
        """Return the first computed, from now on, whose value satisfies `predicate`.

        Raises:
            Exception: the error that was set.
        """
        return await self.computed.when(predicate)

    # -- inside ------------------------------------------------------------------------------------------------------
    async def _read(self) -> Any:
        """Give the value again after somebody has invalidated the computed by hand."""
        if self._error is not None:
            raise self._error
        return self._value

    def _put(self) -> Computed[T]:
        """Replace the computed by a new one with the present value or error."""
        if self._error is not None:
            return self._function.assign_error((), self._error)
        return self._function.assign_value((), self._value)


def _is_equal(old: object, new: object) -> bool:
    """Tell whether two values are equal; those that cannot say so (arrays) are not."""
    try:
        return old is new or bool(cast("Any", old == new))
    except Exception:
        return False
