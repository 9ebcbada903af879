"""Batches of look-ups: all keys asked for in one turn of the event loop are looked up together, as DataLoader does.

Invariants: a look-up is answered by a call that began after it was asked for, so it never sees older data than a query
of its own would have; no answer is kept; a batch belongs to no computation, command or operation; while a batch runs,
at least one caller waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from fusion_cluster.commands.operation import Operation, running_operation
from fusion_cluster.database.batch import Answers, Batch, Place, Wanted, until_done
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.failure import Failure
from fusion_cluster.graph.core.context import running_computation
from fusion_cluster.quantities import as_count
from fusion_cluster.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from fusion_cluster.graph import Computed

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Type variables of a loader: its keys and their values.
Key = TypeVar("Key", bound=Hashable)
V = TypeVar("V")


class BatchLoader(Generic[K, T]):
    """Looks up by key; all look-ups of one turn of the event loop are one call of `load_many`.

    >>> names = BatchLoader(names_of)  # async def names_of(ids: Sequence[int]) -> dict[int, str]
    >>> await gather(names.load(1), names.load(2), names.load(1))  # one call: names_of([1, 2])

    Nothing is kept: a look-up in a later turn is made again. Use a compute method to keep results.

    When a caller is cancelled, its keys are dropped if they have not been sent yet; keys of other callers stay. When
    the last caller is cancelled, the call is cancelled, too. `load_many` runs in a context of its own: its reads become
    dependencies of no computed, and it does not see an operation's transaction. For this reason look-ups in the block
    of an operation are refused. Loaders of a `Database` answer them from the operation's transaction.

    Args:
        load_many: looks up all the keys it is given. Each key is given once; keys that are equal in Python (`1`, `1.0`)
            are never given together. Returns a mapping, in which keys may be missing, or a sequence with a value for
            each key in order, None where there is none. An exception in place of a value is raised to the callers that
            asked for that key; a raised exception goes to all callers.
        missing: gives the result for a key without a value: a function of the key that returns it, or raises. By
            default, None.
        max_batch_size: a batch with this many keys is sent at once, and the next keys make another. By default, no
            limit.
        runtime: starts the tasks of look-ups; a function gives that of the event loop that runs.

    Raises:
        UsageError: `max_batch_size` is below one.
    """

    @overload
    def __init__(
        self: BatchLoader[Key, V | None],
        load_many: Callable[[Sequence[Key]], Awaitable[Answers[Key, V]]],
        *,
        max_batch_size: int | None = None,
        runtime: Runtime | Callable[[], Runtime] = SYSTEM,
    ) -> None: ...

    @overload
    def __init__(
        self: BatchLoader[Key, V],
        load_many: Callable[[Sequence[Key]], Awaitable[Answers[Key, V]]],
        *,
        missing: Callable[[Key], V],
        max_batch_size: int | None = None,
        runtime: Runtime | Callable[[], Runtime] = SYSTEM,
    ) -> None: ...

    def __init__(
        self,
        load_many: Callable[[Sequence[Any]], Awaitable[Answers[Any, Any]]],
        *,
        missing: Callable[[Any], Any] | None = None,
        max_batch_size: int | None = None,
        runtime: Runtime | Callable[[], Runtime] = SYSTEM,
    ) -> None:
        if max_batch_size is not None:
            max_batch_size = as_count("max_batch_size", max_batch_size)
        self._load_many = load_many
        self._missing = missing
        self._max_batch_size = max_batch_size
        self._runtime: Callable[[], Runtime] = (lambda: runtime) if isinstance(runtime, Runtime) else runtime
        # Event loop -> the batch that look-ups join. Those of closed loops are dropped when a new one is made.
        self._open: dict[asyncio.AbstractEventLoop, Batch[K]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self._load_many, '__qualname__', self._load_many)}>"

    async def load(self, key: K) -> T:
        """Look up one key.

        Raises:
            UsageError: the key is not hashable, or this is the block of an operation (see the class).
            Exception: the error that `load_many` raised or gave for the key, or that `missing` raised.
        """
        return (await self.load_many((key,)))[0]

    async def load_many(self, keys: Iterable[K]) -> list[T]:
        """Look up several keys; the results come in the order of the keys. Keys may repeat.

        Raises:
            UsageError: as for `load`.
            Exception: as for `load`; if several keys fail, the error of the first.
        """
        try:
            asked = [Wanted(key) for key in keys]
        except TypeError as error:
            raise UsageError(f"a key that cannot be looked up: {error}", field="keys") from error
        distinct = tuple(dict.fromkeys(asked))
        for wanted in distinct:
            self._check(wanted.key)
        operation = operation_around()
        found = await (self._batched(distinct) if operation is None else self._found_within(operation, distinct))
        return [self._value(found, wanted) for wanted in asked]

    # -- parts that the database's loaders replace ---------------------------------------------------------------------
    def _check(self, key: K) -> None:
        """Refuse a key that is visibly wrong, before it joins others."""

    async def _found_within(self, operation: Operation, keys: Sequence[Wanted[K]]) -> Mapping[Wanted[K], Any]:
        """Look up for a caller in the block of an operation."""
        raise UsageError(
            "this look-up would not see what the operation around it has written: make it before the operation, or "
            "with database.loader(...)"
        )

    def _value(self, found: Mapping[Wanted[K], Any], wanted: Wanted[K]) -> T:
        value = found.get(wanted)
        if value is None:
            return cast("T", None if self._missing is None else self._missing(wanted.key))
        if isinstance(value, Exception):
            Failure(value).throw()
        return cast("T", value)

    # -- batches -------------------------------------------------------------------------------------------------------
    async def _batched(self, keys: Sequence[Wanted[K]]) -> Mapping[Wanted[K], Any]:
        places = self._join(keys)
        try:
            if len(places) == 1:
                return await places[0].found()
            found: dict[Wanted[K], Any] = {}
            for place in places:
                answers = await place.found()
                found.update({key: answers.get(key) for key in place.keys})
        except BaseException:
            await until_done([task for place in places if (task := place.leave()) is not None])
            raise
        return found

    def _join(self, keys: Sequence[Wanted[K]]) -> list[Place[K]]:
        """Take a place in the batch that is open, and in as many more as the keys need."""
        loop = asyncio.get_running_loop()
        places = []
        while keys:
            batch = self._open.get(loop) or self._opened(loop)
            place = batch.join(keys, self._max_batch_size)
            places.append(place)
            keys = keys[len(place.keys) :]
            if batch.is_full:
                self._send(batch)
        return places

    def _opened(self, loop: asyncio.AbstractEventLoop) -> Batch[K]:
        for old in [old for old in self._open if old.is_closed()]:
            del self._open[old]
        batch = self._open[loop] = Batch(loop, runtime=self._runtime())
        loop.call_soon(self._on_next_turn, batch)
        return batch

    def _on_next_turn(self, batch: Batch[K]) -> None:
        # Tasks that became ready in the turn of the first look-up run in this turn, some of them after this: let them
        # join.
        batch.loop.call_soon(self._send, batch)

    def _send(self, batch: Batch[K]) -> None:
        if self._open.get(batch.loop) is batch:  # else it was full, and was sent already
            del self._open[batch.loop]
            batch.send(self._load_many)


def operation_around() -> Operation | None:
    """Return the open operation in whose block the caller is; None in the body of a compute method.

    That holds under `isolated()`, too: the result is shared, and must not hold data that may still be rolled back.
    """
    operation = running_operation()
    if operation is None or operation.task is asyncio.current_task():
        return operation
    node = running_computation.get()
    return operation if node is None or cast("Computed[Any]", node).has_output else None
