"""One batch of look-ups: its callers, their keys, and the task that looks them up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import date
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import body_exited
from fusion_cluster.failures.failure import Failure
from fusion_cluster.graph.core.context import detached_context
from fusion_cluster.runtime import SYSTEM, Runtime

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Answers = Mapping[K, V | Exception] | Sequence[V | Exception | None]
"""The answer to a batch: values by key, or one value for each key in order, with None for a key that has none.

An exception in place of a value is raised to the callers that asked for that key.
"""


_PLAIN: Final = frozenset((int, str, bytes, bool, UUID, date, type(None)))
"""Types whose values a database cannot tell from one another if Python cannot."""


class Wanted(Generic[K]):
    """A key as its caller has spelled it: `1`, `1.0` and `True` are equal in Python, and differ in every database.

    Attributes:
        key: the key.

    Raises:
        TypeError: (when made) the key has no hash.
    """

    __slots__ = ("_hash", "_spelling", "key")

    def __init__(self, key: K) -> None:
        self.key = key
        self._spelling = _spelling(key)
        self._hash = hash(key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wanted) and self._spelling == other._spelling

    def __hash__(self) -> int:
        return self._hash


def _spelling(key: object) -> Any:
    kind = type(key)
    if kind in _PLAIN:
        return kind, key
    if isinstance(key, tuple):
        return kind, tuple([_spelling(part) for part in key])
    return kind, key, repr(key)  # a time has a zone, a Decimal zeros


class Place(Generic[K]):
    """The place of one caller in a batch.

    Attributes:
        batch: the batch.
        keys: the keys, each once.
        answer: what the batch found, also for others.
    """

    __slots__ = ("answer", "batch", "keys")

    def __init__(self, batch: Batch[K], keys: Sequence[Wanted[K]]) -> None:
        self.batch = batch
        self.keys = keys
        self.answer: asyncio.Future[Mapping[Wanted[K], Any] | Failure] = batch.loop.create_future()

    async def found(self) -> Mapping[Wanted[K], Any]:
        """Return what the batch has found.

        Raises:
            Exception: the error that the look-up raised, as an object for this caller alone.
        """
        answer = await self.answer
        if isinstance(answer, Failure):
            answer.throw()
        return answer

    def leave(self) -> asyncio.Task[None] | None:
        """Give the place up. Returns the batch's task if that was cancelled by it."""
        return self.batch.leave(self)


class Batch(Generic[K]):
    """Keys that are looked up together.

    Args:
        loop: the event loop of the callers.
        runtime: starts the task of the look-up.

    Attributes:
        loop: the event loop of its callers.
        askers: the keys, in order of arrival, with the number of callers that want each.
        places: the callers that wait.
        is_full: the next key belongs to another batch.
        task: looks the keys up, once they have left.
    """

    __slots__ = ("_runtime", "_spelled", "askers", "is_full", "loop", "places", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, runtime: Runtime = SYSTEM) -> None:
        self.loop = loop
        self._runtime = runtime
        self.askers: dict[Wanted[K], int] = {}
        # A batch holds one of several keys that are equal in Python, or its answers could not be distinguished.
        self._spelled: dict[K, Wanted[K]] = {}
        self.is_full = False
        self.places: dict[Place[K], None] = {}
        self.task: asyncio.Task[None] | None = None

    def join(self, keys: Sequence[Wanted[K]], limit: int | None) -> Place[K]:
        """Take a place for as many of the keys, from the first on, as there is room for."""
        askers = self.askers
        count = 0
        for key in keys:
            if key not in askers and (len(askers) == limit or key.key in self._spelled):
                self.is_full = True
                break
            self._spelled[key.key] = key
            askers[key] = askers.get(key, 0) + 1
            count += 1
        self.is_full = self.is_full or len(askers) == limit
        place = Place(self, keys[:count])
        self.places[place] = None
        return place

    def leave(self, place: Place[K]) -> asyncio.Task[None] | None:
        """Give up a place; keys that no other caller wants go with it. The last one to leave cancels the look-up."""
        if place not in self.places:
            return None
        del self.places[place]
        for key in place.keys:
            self.askers[key] -= 1
            if not self.askers[key]:
                del self.askers[key], self._spelled[key.key]
        if self.places or self.task is None:
            return None
        self.task.cancel()
        return self.task

    def send(self, load_many: Callable[[Sequence[K]], Awaitable[Answers[K, Any]]]) -> None:
        """Look the keys up, in a task that shares no context with any caller."""
        for place in [place for place in self.places if place.answer.cancelled()]:
            self.leave(place)  # its caller has been cancelled in this turn, and does not know it yet
        if self.places:
            answer = self._answer(load_many, tuple(self.askers))
            self.task = self._runtime.create_task(answer, name="look a batch up", context=detached_context())
            self.task.add_done_callback(self._on_done)

    async def _answer(
        self, load_many: Callable[[Sequence[K]], Awaitable[Answers[K, Any]]], keys: Sequence[Wanted[K]]
    ) -> None:
        found: Mapping[Wanted[K], Any] | Failure
        try:
            found = by_key(keys, await load_many(tuple([wanted.key for wanted in keys])))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            found = Failure.caught(error)
        except BaseException as error:
            found = Failure.caught(body_exited(_name_of(load_many), error))
        for place in self._waiting():
            place.answer.set_result(found)

    def _waiting(self) -> list[Place[K]]:
        """Return the places that wait for an answer, and forget them, so that each is answered once."""
        places, self.places = self.places, {}
        return [place for place in places if not place.answer.done()]

    def _on_done(self, task: asyncio.Task[None]) -> None:
        for place in self._waiting():  # the task was cancelled from outside: the loop is shutting down
            place.answer.cancel()


def _name_of(load_many: object) -> str:
    return str(getattr(load_many, "__qualname__", type(load_many).__qualname__))


def by_key(keys: Sequence[Wanted[K]], answers: Answers[K, Any]) -> Mapping[Wanted[K], Any]:
    """Return the answers to a batch by key, for each key that has one."""
    if isinstance(answers, Mapping):
        return {wanted: answers[wanted.key] for wanted in keys if wanted.key in answers}
    if not isinstance(answers, Sequence):
        raise UsageError(f"a batch is answered with a mapping or a sequence, not {type(answers).__name__}")
    if len(answers) != len(keys):
        raise UsageError(f"a batch of {len(keys)} keys was answered with {len(answers)} values")
    return dict(zip(keys, answers, strict=True))


async def until_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until tasks that are being cancelled have ended, even if the caller is cancelled meanwhile.

    Raises:
        CancelledError: the caller was cancelled meanwhile.
    """
    cancellation: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
