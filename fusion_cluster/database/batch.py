"""One batch of look-ups: who wants which keys, and the task that looks them up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.context import detached_context
from fusion_cluster.graph.exits import body_exited
from fusion_cluster.graph.failure import Failure

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Answers = Mapping[K, V | Exception] | Sequence[V | Exception | None]
"""What a batch is answered with: values by key, or one for each key, in order, with None for those that have none.

An exception in place of a value is raised to those who asked for that key.
"""


class Place(Generic[K]):
    """What one caller wants of one batch.

    Attributes:
        batch: the batch.
        keys: the keys, each once.
        answer: what the batch found, also for others.
    """

    __slots__ = ("answer", "batch", "keys")

    def __init__(self, batch: Batch[K], keys: Sequence[K]) -> None:
        self.batch = batch
        self.keys = keys
        self.answer: asyncio.Future[Mapping[K, Any] | Failure] = batch.loop.create_future()

    async def found(self) -> Mapping[K, Any]:
        """Return what the batch has found.

        Raises:
            Exception: what looking up has raised, as an object for this caller alone.
        """
        answer = await self.answer
        if isinstance(answer, Failure):
            answer.throw()
        return answer

    def leave(self) -> asyncio.Task[None] | None:
        """Want nothing any more. Returns the batch's task if that was cancelled by it."""
        return self.batch.leave(self)


class Batch(Generic[K]):
    """Keys that are looked up together.

    Attributes:
        loop: the event loop of its callers.
        askers: the keys, in order of arrival, with the number of callers that want each.
        places: the callers that wait.
        task: looks the keys up, once they have left.
    """

    __slots__ = ("askers", "loop", "places", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.askers: dict[K, int] = {}
        self.places: dict[Place[K], None] = {}
        self.task: asyncio.Task[None] | None = None

    def join(self, keys: Sequence[K], limit: int | None) -> Place[K]:
        """Take a place for as many of the keys, from the first on, as there is room for."""
        askers = self.askers
        count = 0
        for key in keys:
            if key not in askers and len(askers) == limit:
                break
            askers[key] = askers.get(key, 0) + 1
            count += 1
        place = Place(self, keys[:count])
        self.places[place] = None
        return place

    def leave(self, place: Place[K]) -> asyncio.Task[None] | None:
        """Give up a place; the keys that nobody else wants go with it. The last one to leave cancels the look-up."""
        if place not in self.places:
            return None
        del self.places[place]
        for key in place.keys:
            self.askers[key] -= 1
            if not self.askers[key]:
                del self.askers[key]
        if self.places or self.task is None:
            return None
        self.task.cancel()
        return self.task

    def send(self, load_many: Callable[[Sequence[K]], Awaitable[Answers[K, Any]]]) -> None:
        """Look the keys up, in a task that shares no context with any caller."""
        for place in [place for place in self.places if place.answer.cancelled()]:
            self.leave(place)  # its caller has been cancelled in this turn, and does not know it yet
        if self.places:
            self.task = self.loop.create_task(self._answer(load_many, tuple(self.askers)), context=detached_context())
            self.task.add_done_callback(self._on_done)

    async def _answer(self, load_many: Callable[[Sequence[K]], Awaitable[Answers[K, Any]]], keys: Sequence[K]) -> None:
        try:
            found: Mapping[K, Any] | Failure = _by_key(keys, await load_many(keys))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            found = Failure.caught(error)
        except BaseException as error:
            found = Failure.caught(body_exited(_name_of(load_many), error))
        for place in self._waiting():
            place.answer.set_result(found)

    def _waiting(self) -> list[Place[K]]:
        """Those to be told, and told only once."""
        places, self.places = self.places, {}
        return [place for place in places if not place.answer.done()]

    def _on_done(self, task: asyncio.Task[None]) -> None:
        for place in self._waiting():  # somebody else has cancelled the task: the loop is shutting down
            place.answer.cancel()


def _name_of(load_many: object) -> str:
    return str(getattr(load_many, "__qualname__", type(load_many).__qualname__))


def _by_key(keys: Sequence[K], answers: Answers[K, Any]) -> Mapping[K, Any]:
    if isinstance(answers, Mapping):
        return answers
    if not isinstance(answers, Sequence):
        raise UsageError(f"a batch is answered with a mapping or a sequence, not {type(answers).__name__}")
    if len(answers) != len(keys):
        raise UsageError(f"a batch of {len(keys)} keys was answered with {len(answers)} values")
    return dict(zip(keys, answers, strict=True))


async def until_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for tasks that are being cancelled, whatever happens to the one who waits.

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
