"""The outbox of a database: events that wait for delivery, and dead letters, to be listed, retried or discarded.

Operations write into it with their commit; deliverers claim events from it (`event_claims`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import enum
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
from sqlalchemy import ColumnElement, Row, case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from fusion_cluster.commands.emitted_event import EmittedEvent
from fusion_cluster.commands.operation import Operation
from fusion_cluster.database.operation_log import OperationLog
from fusion_cluster.database.schema import EVENTS
from fusion_cluster.quantities import as_count
from fusion_cluster.runtime import Runtime

logger = logging.getLogger(__name__)

_INSERT: Final = insert(EVENTS)


class EventState(enum.Enum):
    """State of an event in the outbox. A delivered event is not in the outbox any more."""

    WAITING = "waiting"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the outbox.

    Attributes:
        position: its place among all: the later it was emitted, the higher.
        event_id: its id.
        type: the name of its class.
        key: events of one key keep their order; a plain value.
        event: its fields, as a plain value.
        state: waiting for delivery, or dead: given up after too many attempts.
        attempts: how many attempts have failed.
        emitted_at: when it was emitted.
        due_at: when the next attempt is due, at the earliest; of a dead one, when it died.
        remaining: the handlers that have still to succeed; None: all of them.
        error: the error of the last attempt.
        is_claimed: a host is delivering it now.
    """

    position: int
    event_id: str
    type: str
    key: Any
    event: Any
    state: EventState
    attempts: int
    emitted_at: datetime.datetime
    due_at: datetime.datetime
    remaining: tuple[str, ...] | None
    error: str | None
    is_claimed: bool


@runtime_checkable
class HandlesEvents(Protocol):
    """A host that knows which events its app handles."""

    def handles_event(self, event_type: str) -> bool:
        """Whether the app handles events of the class of that name."""
        ...


class EventStore:
    """The outbox of one database (a `commands.outbox.EventOutbox`).

    Args:
        prepare: makes the tables if they are missing.
        session: gives a session to read with.
        log: writes in transactions that belong to no operation.
        runtime: gives the runtime of the event loop that runs.
    """

    def __init__(
        self,
        prepare: Callable[[], Awaitable[None]],
        session: Callable[[], AsyncSession],
        log: OperationLog,
        runtime: Callable[[], Runtime],
    ) -> None:
        self._prepare = prepare
        self._session = session
        self._log = log
        self._runtime = runtime
        # The deliverers of this process, each with the event loop in which it is woken.
        self._deliverers: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
        self._unhandled: set[str] = set()

    # -- for operations ------------------------------------------------------------------------------------------------
    async def write(self, operation: Operation) -> None:
        """Write an operation's events in its transaction, except those that its command's app does not handle."""
        events: Sequence[EmittedEvent] = operation.events
        hosting = operation.command.hosting if operation.command is not None else None
        if isinstance(hosting, HandlesEvents):
            events = [event for event in events if self._is_handled(hosting, event)]
        if events:
            await insert_events(await operation.session.connection(), events, emitted_at=self._now_s())

    def on_committed(self) -> None:
        """Wake the deliverers of this process."""
        here = asyncio.get_running_loop()
        for wake, loop in list(self._deliverers.items()):
            if loop is here:
                wake()
            else:
                with contextlib.suppress(RuntimeError):  # the loop was closed before the deliverer was removed
                    loop.call_soon_threadsafe(wake)

    def add_deliverer(self, wake: Callable[[], None]) -> None:
        """Call `wake`, in the event loop that runs now, after each commit of events in this process."""
        self._deliverers[wake] = asyncio.get_running_loop()

    def remove_deliverer(self, wake: Callable[[], None]) -> None:
        """Stop calling `wake`."""
        self._deliverers.pop(wake, None)

    def _now_s(self) -> float:
        return self._runtime().clock.wall()

    def _is_handled(self, hosting: HandlesEvents, event: EmittedEvent) -> bool:
        if hosting.handles_event(event.type):
            return True
        if event.type not in self._unhandled:
            self._unhandled.add(event.type)
            logger.warning("no handler for %s: such events are dropped", event.type)
        return False

    # -- for people ----------------------------------------------------------------------------------------------------
    async def list(
        self,
        *,
        state: EventState | None = None,
        type: str | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> Sequence[StoredEvent]:
        """List the events in the outbox, in the order in which they were emitted.

        Args:
            state: only events in this state.
            type: only events of the class of this name.
            limit: how many at most.
            after: only events at higher positions; give the position of the last event shown to see the next ones.

        Raises:
            InvalidArgument: `limit` or `after` is not a whole number, or negative.
        """
        limit, after = as_count("limit", limit), as_count("after", after, least=0)
        await self._prepare()
        chosen = select(EVENTS).where(EVENTS.c.position > after, *_conditions(state, type))
        async with self._session() as session:
            rows = await session.execute(chosen.order_by(EVENTS.c.position).limit(limit))
            return [_stored(row, self._now_s()) for row in rows]

    async def retry(self, event_id: str) -> bool:
        """Deliver an event as soon as possible; a dead one gets all its attempts again.

        Returns:
            False if there is no such event.
        """
        return await self._retry([EVENTS.c.event_id == event_id]) > 0

    async def retry_dead(self, *, type: str | None = None) -> int:
        """Deliver all dead letters, or those of one class, again; return how many there were."""
        return await self._retry(_conditions(EventState.DEAD, type))

    async def discard(self, event_id: str) -> bool:
        """Delete an event. A delivery that is in progress goes on.

        Returns:
            False if there is no such event.
        """
        return await self._discard([EVENTS.c.event_id == event_id]) > 0

    async def discard_dead(self, *, type: str | None = None) -> int:
        """Delete all dead letters, or those of one class; return how many there were."""
        return await self._discard(_conditions(EventState.DEAD, type))

    async def _retry(self, conditions: Sequence[ColumnElement[bool]]) -> int:
        now = self._now_s()
        is_dead = EVENTS.c.state == EventState.DEAD.value
        statement = (
            update(EVENTS)
            .where(*conditions)
            .values(
                state=EventState.WAITING.value,
                attempts=case((is_dead, 0), else_=EVENTS.c.attempts),
                first_due_at=case((EVENTS.c.first_due_at > now, now), else_=EVENTS.c.first_due_at),
                due_at=now,
            )
        )

        async def run(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        count = await self._in_transaction(run)
        self.on_committed()
        return count

    async def _discard(self, conditions: Sequence[ColumnElement[bool]]) -> int:
        async def run(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(EVENTS).where(*conditions))).rowcount

        return await self._in_transaction(run)

    async def _in_transaction(self, run: Callable[[AsyncConnection], Coroutine[Any, Any, int]]) -> int:
        await self._prepare()
        return await self._log.in_transaction(run)


async def insert_events(connection: AsyncConnection, events: Sequence[EmittedEvent], *, emitted_at: float) -> None:
    """Insert events in the order in which they were emitted.

    Args:
        connection: the connection whose transaction they belong to.
        events: the events.
        emitted_at: now, in seconds since the epoch.
    """
    rows = [
        {
            "event_id": event.event_id,
            "type": event.type,
            "key": event.key,
            "slot": event.slot,
            "payload": event.payload,
            "emitted_at": emitted_at,
            "first_due_at": emitted_at + event.delay_s,
            "due_at": emitted_at + event.delay_s,
            "attempts": 0,
            "state": EventState.WAITING.value,
            "baggage": event.baggage,
        }
        for event in events
    ]
    await connection.execute(_INSERT, rows)


def _conditions(state: EventState | None, type: str | None) -> list[ColumnElement[bool]]:
    conditions = []
    if state is not None:
        conditions.append(EVENTS.c.state == state.value)
    if type is not None:
        conditions.append(EVENTS.c.type == type)
    return conditions


def _stored(row: Row[Any], now_s: float) -> StoredEvent:
    return StoredEvent(
        position=row.position,
        event_id=row.event_id,
        type=row.type,
        key=msgspec.msgpack.decode(row.key),
        event=msgspec.msgpack.decode(row.payload),
        state=EventState(row.state),
        attempts=row.attempts,
        emitted_at=_time(row.emitted_at),
        due_at=_time(row.due_at),
        remaining=None if row.remaining is None else tuple(json.loads(row.remaining)),
        error=row.error,
        is_claimed=row.claimed_until is not None and row.claimed_until > now_s,
    )


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
