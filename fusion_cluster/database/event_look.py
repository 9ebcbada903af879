"""Looking for the events that a host may deliver now: the first ones of their keys that are due.

It goes through what is due in windows, by time. Of each window it asks for the first events of the keys in it, and
passes over these keys from then on: so events that wait for others of their keys hide nobody behind them.

Each statement costs at most what the events that are due, or of these keys, cost to be read once, whatever the database
knows of a table that was empty a moment ago. Conditions on pairs of events (NOT EXISTS an earlier one of the key) do
not: PostgreSQL may compare each with each.
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
"""How often a look goes on behind events that wait for others of their keys."""

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
"""Of events of `keys`: they are the first of theirs whose time has come, and no other of these is being delivered."""

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
        types: the names of the classes of events that are handled here.
        limit: how many events are looked for.

    Attributes:
        due: what was found: position, key and slot of each; those that are due for longest first.
        next_due_at: when the earliest of those is due that are not due yet, as far as that was seen.
    """

    def __init__(self, now: float, types: Sequence[str], limit: int) -> None:
        self.due: list[Row[Any]] = []
        self.next_due_at: float | None = None
        self._now = now
        self._limit = limit
        self._common = {"now": now, "types": types}

    @property
    def is_full(self) -> bool:
        """There may be more than was looked for."""
        return len(self.due) >= self._limit

    async def run(
        self, session: AsyncSession, *, owned: bytes | None, horizon_s: float, besides: Collection[bytes]
    ) -> None:
        """Look.

        Args:
            session: to read with.
            owned: a byte for each slot, 1 where it is owned here; None: all are.
            horizon_s: how far to look ahead for what is due next.
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
