"""Search for the events that a host may deliver now: of each key the first that is due.

It goes through the due events in windows, by time. For each window it asks for the first events of the keys in it, and
passes over these keys from then on: so events that wait for others of their keys do not hide the events behind them.

Each statement costs at most one read of the events that are due, or of the events of these keys, even if the database's
statistics are from a moment when the table was empty. Conditions on pairs of events (NOT EXISTS an earlier one of the
key) do not have this bound: PostgreSQL may compare each event with each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import LargeBinary, Row, bindparam, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from fusion_cluster.database.event_store import EventState
from fusion_cluster.database.schema import EVENTS

WINDOW: Final = 256
"""How many events one statement looks at."""

MOST_WINDOWS: Final = 20
"""The most windows that one search reads, when the first hold only events that wait for others of their keys."""

IS_WAITING: Final = EVENTS.c.state == EventState.WAITING.value
IS_FREE: Final = or_(EVENTS.c.claimed_until.is_(None), EVENTS.c.claimed_until <= bindparam("now"))

_other = EVENTS.alias("other")


_MAY_BE_NEXT: Final = (
    *(_other.c.state == EventState.WAITING.value, _other.c.first_due_at <= bindparam("now")),
    _other.c.type.in_(bindparam("types", expanding=True)),
)
_OF_KEYS: Final = _other.c.key.in_(bindparam("keys", expanding=True))
_FIRST_OF_KEYS: Final = select(func.min(_other.c.position)).where(_OF_KEYS, *_MAY_BE_NEXT).group_by(_other.c.key)
_CLAIMED_KEYS: Final = select(_other.c.key).where(_OF_KEYS, _other.c.claimed_until > bindparam("now"))

ARE_NEXT: Final = (EVENTS.c.position.in_(_FIRST_OF_KEYS), EVENTS.c.key.not_in(_CLAIMED_KEYS))
"""Conditions on an event of `keys`: it is the first due one of its key, and no other one of its key is in delivery."""

FIRST_OF_KEY: Final = (
    select(_other.c.position)
    .where(_other.c.key == bindparam("key_"), *_MAY_BE_NEXT)
    .order_by(_other.c.position)
    .limit(1)
    .scalar_subquery()
)
"""The position of the first event of `key_` whose time has come."""

_IS_OWNED: Final = func.substr(bindparam("owned", type_=LargeBinary), EVENTS.c.slot + 1, 1) == literal(b"\x01")
_WINDOW: Final = (
    select(EVENTS.c.key, EVENTS.c.due_at)
    .where(
        *(IS_WAITING, EVENTS.c.due_at <= bindparam("horizon"), IS_FREE),
        EVENTS.c.type.in_(bindparam("types", expanding=True)),
        EVENTS.c.key.not_in(bindparam("besides", expanding=True)),
    )
    .order_by(EVENTS.c.due_at, EVENTS.c.position)
    .limit(WINDOW)
)
_OWNED_WINDOW: Final = _WINDOW.where(_IS_OWNED)
_NEXT: Final = select(EVENTS.c.position, EVENTS.c.key, EVENTS.c.slot, EVENTS.c.due_at).where(*ARE_NEXT)


class EventLook:
    """One look at an outbox.

    Args:
        now: in seconds since the epoch.
        types: the class names of the events that are handled here.
        limit: how many events are looked for.

    Attributes:
        due: the events found, as position, key and slot; the longest due first.
        next_due_at: when the next event becomes due, as far as the search has seen.
    """

    def __init__(self, now: float, types: Sequence[str], limit: int) -> None:
        self.due: list[Row[Any]] = []
        self.next_due_at: float | None = None
        self._now = now
        self._limit = limit
        self._common = {"now": now, "types": types}

    @property
    def is_full(self) -> bool:
        """Whether as many were found as were looked for: there may be more."""
        return len(self.due) >= self._limit

    async def run(
        self, session: AsyncSession, *, owned: bytes | None, horizon_s: float, besides: Collection[bytes]
    ) -> None:
        """Look.

        Args:
            session: to read with.
            owned: a byte for each slot, 1 if it is owned here; None: all are.
            horizon_s: how far to look ahead for the event that is due next.
            besides: keys that are passed over.
        """
        passed_over = set(besides)
        statement, window = _WINDOW, {**self._common, "horizon": self._now + horizon_s}
        if owned is not None:
            statement, window = _OWNED_WINDOW, {**window, "owned": owned}
        for _ in range(MOST_WINDOWS):
            rows = (await session.execute(statement, {**window, "besides": list(passed_over)})).all()
            keys = self._keys_due(rows)
            if keys:
                self._add((await session.execute(_NEXT, {**self._common, "keys": keys})).all())
                passed_over.update(keys)
            if len(rows) < WINDOW or not keys or self.is_full:
                break
        del self.due[self._limit :]

    def _keys_due(self, rows: Sequence[Any]) -> list[bytes]:
        for row in rows:
            self._note(row.due_at)
        return list({row.key: None for row in rows if row.due_at <= self._now})

    def _add(self, rows: Sequence[Any]) -> None:
        for row in sorted(rows, key=lambda row: row.due_at):
            self._note(row.due_at)
            if row.due_at <= self._now:
                self.due.append(row)

    def _note(self, due_at: float) -> None:
        if due_at > self._now and (self.next_due_at is None or due_at < self.next_due_at):
            self.next_due_at = due_at
