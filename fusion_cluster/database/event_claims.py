"""Claims of events: a host that delivers an event notes in its row until when it holds it, and how delivery ended.

Invariants: no two hosts hold claims of one event, nor of two events of one key, at the same time, as far as their
clocks agree; a claim is given only to the first event of its key among those that are due (by position; an event that
is delayed, or has no handler here, does not hold up others until it is due).

Two hosts meet only when the ownership of slots moves, or when one was taken for dead. With SQLite, one transaction
writes at a time. With PostgreSQL, claims are given under a lock for each slot; a host that finds it taken skips the
slot. Row locks (FOR UPDATE SKIP LOCKED) keep out retries and discards, but alone they do not keep two rows of one key
apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Row,
    and_,
    bindparam,
    cast,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from fusion_cluster.database.event_look import ARE_NEXT, FIRST_OF_KEY, IS_FREE, IS_WAITING, EventLook
from fusion_cluster.database.event_store import EventState
from fusion_cluster.database.schema import EVENTS
from fusion_cluster.events.claims import Claimed, ClaimedEvent, Verdict

if TYPE_CHECKING:
    from fusion_cluster.database.database import Database

T = TypeVar("T")

_LOCKS: Final = 0x66757365  # "fuse"
"""The first of the two numbers of PostgreSQL's advisory locks for slots whose events are claimed."""

_AMONG: Final = EVENTS.c.position.in_(bindparam("positions", expanding=True))
_CLAIMABLE: Final = (
    select(EVENTS)
    .where(_AMONG, IS_WAITING, EVENTS.c.due_at <= bindparam("now"), IS_FREE, *ARE_NEXT)
    .order_by(EVENTS.c.position)
    .with_for_update(of=EVENTS, skip_locked=True)
)
_CLAIM_FIRST_OF_KEY: Final = (
    update(EVENTS)
    .where(
        *(EVENTS.c.position == FIRST_OF_KEY, IS_WAITING),
        *(EVENTS.c.due_at <= bindparam("now"), EVENTS.c.claimed_until.is_(None)),
    )
    .values(claimed_by=bindparam("me"), claimed_until=bindparam("until"))
    .returning(EVENTS)
)
_MINE: Final = and_(_AMONG, EVENTS.c.claimed_by == bindparam("me"))
_CLAIM: Final = update(EVENTS).where(_AMONG).values(claimed_by=bindparam("me"), claimed_until=bindparam("until"))
_RENEW: Final = update(EVENTS).where(_MINE).values(claimed_until=bindparam("until")).returning(EVENTS.c.position)
_RELEASE: Final = update(EVENTS).where(_MINE).values(claimed_by=None, claimed_until=None)
_DELETE: Final = delete(EVENTS).where(EVENTS.c.position == bindparam("position_"))
_DELETE_MINE: Final = _DELETE.where(EVENTS.c.claimed_by == bindparam("me"), EVENTS.c.claimed_until > bindparam("now"))
_FAIL: Final = (
    update(EVENTS)
    .where(EVENTS.c.position == bindparam("position_"), EVENTS.c.claimed_by == bindparam("claimed_by_"))
    .values(claimed_by=None, claimed_until=None)
)
_TRIM: Final = delete(EVENTS).where(EVENTS.c.state == EventState.DEAD.value, EVENTS.c.due_at < bindparam("before"))


class EventClaims:
    """The claims of one host in the outbox of a database (`events.claims.Claims`).

    Args:
        database: the database that has the outbox.
        me: the name of the host and of its incarnation.
        types: the class names of the events that are handled here.
        clock: seconds since the epoch.
        claim_s: how long a claim holds unless it is renewed.
    """

    def __init__(
        self, database: Database, *, me: str, types: Collection[str], clock: Callable[[], float], claim_s: float
    ) -> None:
        self._database = database
        self._me = me
        self._types = sorted(types)
        self._clock = clock
        self._claim_s = claim_s
        self._wake: Callable[[], None] | None = None

    async def open(self, wake: Callable[[], None]) -> None:
        """Prepare the outbox, and call `wake` whenever this process has put something into it."""
        await self._database.prepare()
        self._wake = wake
        self._database.events.add_deliverer(wake)

    def close(self) -> None:
        """Stop calling `wake`."""
        if self._wake is not None:
            self._database.events.remove_deliverer(self._wake)

    async def claim(
        self,
        limit: int,
        *,
        owned: bytes | None,
        horizon_s: float,
        judge: Callable[[ClaimedEvent], Verdict],
        besides: Collection[bytes] = (),
    ) -> Claimed:
        """Claim events that are due: of each key the first.

        An event that another host has claimed and abandoned counts as failed once more: it may have crashed that host.

        Args:
            limit: how many at most.
            owned: a byte for each slot, 1 if it is owned here; None: all are.
            horizon_s: how far to look ahead for the event that is due next.
            judge: decides what becomes of abandoned events.
            besides: keys whose events are being delivered here; they are passed over.
        """
        now = self._clock()
        look = EventLook(now, self._types, limit)
        async with self._database.session() as session:
            await look.run(session, owned=owned, horizon_s=horizon_s, besides=besides)
        claimed = Claimed(next_due_at=look.next_due_at, is_more=look.is_full)
        if look.due:
            claimed.events = await self._in_transaction(
                lambda connection: self._claim(connection, look.due, now, judge)
            )
        return claimed

    async def succeeded(self, event: ClaimedEvent, *, wants_next: bool) -> ClaimedEvent | None:
        """Delete an event that was delivered; claim and return the next one of its key, if it is due and wanted."""
        return await self._in_transaction(lambda connection: self._succeeded(connection, event, wants_next))

    async def failed(self, event: ClaimedEvent, verdict: Verdict) -> None:
        """Give an event back after an attempt that failed, unless another host has it by now."""
        await self._in_transaction(lambda connection: self._fail(connection, event, verdict))

    async def renew(self, events: Iterable[ClaimedEvent]) -> set[int]:
        """Extend claims.

        Returns:
            The positions of the events that are still held.
        """
        renewed = {**self._mine(events), "until": self._clock() + self._claim_s}

        async def renew(connection: AsyncConnection) -> set[int]:
            return {row.position for row in await connection.execute(_RENEW, renewed)}

        return await self._in_transaction(renew)

    async def release(self, events: Iterable[ClaimedEvent]) -> None:
        """Give events back, as if their delivery had not begun."""
        released = self._mine(events)
        await self._in_transaction(lambda connection: connection.execute(_RELEASE, released))

    async def trim(self, before: float) -> int:
        """Delete dead letters that died before that time; return how many there were."""

        async def trim(connection: AsyncConnection) -> int:
            return (await connection.execute(_TRIM, {"before": before})).rowcount

        return await self._in_transaction(trim)

    # -- inside --------------------------------------------------------------------------------------------------------
    def _mine(self, events: Iterable[ClaimedEvent]) -> dict[str, Any]:
        return {"positions": [event.position for event in events], "me": self._me}

    async def _claim(
        self,
        connection: AsyncConnection,
        due: Sequence[Any],
        now: float,
        judge: Callable[[ClaimedEvent], Verdict],
    ) -> list[ClaimedEvent]:
        slots = await _locked(connection, {row.slot for row in due})
        mine = [row for row in due if row.slot in slots]
        if not mine:
            return []
        chosen = {"positions": [row.position for row in mine], "keys": [row.key for row in mine], "now": now}
        rows = (await connection.execute(_CLAIMABLE, {**chosen, "types": self._types})).all()
        events = [_claimed(row, abandoned_by=row.claimed_by) for row in rows]
        for abandoned in events:
            if abandoned.abandoned_by is not None:
                await self._fail(connection, abandoned, judge(abandoned))
        fresh = [event for event in events if event.abandoned_by is None]
        if fresh:
            await connection.execute(_CLAIM, {**self._mine(fresh), "until": self._clock() + self._claim_s})
        return fresh

    async def _succeeded(
        self, connection: AsyncConnection, event: ClaimedEvent, wants_next: bool
    ) -> ClaimedEvent | None:
        now = self._clock()
        position, mine = {"position_": event.position}, {"me": self._me, "now": now}
        deleted = await connection.execute(_DELETE_MINE, {**position, **mine})
        if not deleted.rowcount:  # another host has claimed it by now, and will find that everything is done
            await connection.execute(_DELETE, position)
            return None
        if not wants_next:
            return None
        claim = {**mine, "until": now + self._claim_s, "key_": event.key, "types": self._types}
        row = (await connection.execute(_CLAIM_FIRST_OF_KEY, claim)).first()
        return None if row is None else _claimed(row)

    async def _fail(self, connection: AsyncConnection, event: ClaimedEvent, verdict: Verdict) -> None:
        values = {
            "attempts": verdict.attempts,
            "due_at": verdict.due_at,
            "state": (EventState.DEAD if verdict.is_dead else EventState.WAITING).value,
            "remaining": None if verdict.remaining is None else json.dumps(verdict.remaining),
            "error": verdict.error,
        }
        parameters = {"position_": event.position, "claimed_by_": event.abandoned_by or self._me}
        await connection.execute(_FAIL.values(values), parameters)

    async def _in_transaction(self, run: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        return await self._database.log.in_transaction(run)


async def _locked(connection: AsyncConnection, slots: set[int]) -> set[int]:
    """Lock slots for claiming until the transaction ends; return those that no other host has locked."""
    if connection.dialect.name != "postgresql":
        return slots
    asked = func.unnest(cast(bindparam("slots"), ARRAY(Integer))).column_valued("slot")
    is_locked: ColumnElement[bool] = func.pg_try_advisory_xact_lock(cast(_LOCKS, Integer), asked)
    locked = await connection.execute(select(asked, is_locked), {"slots": sorted(slots)})
    return {slot for slot, is_mine in locked if is_mine}


def _claimed(row: Row[Any], *, abandoned_by: str | None = None) -> ClaimedEvent:
    return ClaimedEvent(
        position=row.position,
        event_id=row.event_id,
        type=row.type,
        key=row.key,
        payload=row.payload,
        attempts=row.attempts,
        remaining=None if row.remaining is None else tuple(json.loads(row.remaining)),
        abandoned_by=abandoned_by,
        baggage=row.baggage,
    )
