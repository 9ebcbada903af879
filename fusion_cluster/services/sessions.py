"""Sign-ins by client session, and the presence of users.

A *client session* belongs to one client (a browser, an app on a phone) for as long as the client keeps a secret id. It
has a row only while a user is signed in in it. A user is *present* while one of their client sessions was active within
the last minute.

Presence is cheap because it is written seldom. `touch` asks the graph when the session was last seen, which is a hit,
and writes only when that was some time ago. A user who stays present invalidates only that time of their session.
Activity close to the end of a presence is announced by a group that waits for a step, `renewals`. So the count of
present users costs the same for any number of users.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec
from sqlalchemy import Select, delete, func, select, update

from fusion_cluster.bodies.expiry import expire_at
from fusion_cluster.catalogue.service import ComputeService, runtime_of
from fusion_cluster.commands import command
from fusion_cluster.database import Database
from fusion_cluster.database.schema import MAX_ID_CHARACTERS, SESSIONS
from fusion_cluster.database.upsert import upsert
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import compute_method
from fusion_cluster.quantities import as_count, as_finite_timeout
from fusion_cluster.runtime import SYSTEM, Entropy
from fusion_cluster.services.checks import require_text
from fusion_cluster.services.shared_expiry import STEP_S, expire_after_end

MIN_SESSION_ID_CHARACTERS: Final = 32
"""The length of 128 random bits in hexadecimal digits, which cannot be guessed. The app chooses how it makes ids."""

MAX_DETAILS_BYTES: Final = 4096
MAX_AT_ONCE: Final = 1000
"""The most users on one page, and the most sessions that one command ends."""

CLOCK_TOLERANCE_S: Final = 5.0
"""How much the clocks of two machines may differ, and how long a commit may take, close to the end of a presence."""

_COLUMNS: Final = SESSIONS.c
_encode_details: Final = msgspec.json.Encoder().encode
_decode_details: Final = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True)
class SignIn:
    """The sign-in of a user in a client session.

    Attributes:
        session_id: the client session. Anyone who knows the id can act in the session: show it only to its client.
        user_id: the user.
        signed_in_at: the time of the sign-in.
        details: the details that `sign_in` got.
    """

    session_id: str
    user_id: str
    signed_in_at: datetime
    details: dict[str, str]


def new_session_id(entropy: Entropy = SYSTEM.entropy) -> str:
    """Return a new id for a client session: 256 random bits (it cannot be guessed) in 43 characters fit for cookies."""
    return entropy.token_urlsafe(32)


class Sessions(ComputeService):
    """Sign-ins by client session and by user, and presence.

    It is for the code of an app, which must check the identity of a user before it calls `sign_in`. If clients from
    outside reach services directly, forbid them all its commands: see the middleware `Authorization`.

    Attributes:
        presence_timeout_s: how long a user is present after the last activity in one of their sessions.
        touch_interval_s: how often the activity of a busy session is written; much shorter than the time-out.
    """

    database: Database

    presence_timeout_s: ClassVar[float] = 60.0
    touch_interval_s: ClassVar[float] = 20.0

    # -- who is signed in ----------------------------------------------------------------------------------------------
    @compute_method
    async def get(self, session_id: str) -> SignIn | None:
        """Return the sign-in in a client session; None without a sign-in.

        Raises:
            InvalidArgument: this cannot be the id of a client session.
        """
        _require_session(session_id)
        row = await self.database.loader(SESSIONS).load(session_id)  # one query for all sessions that are read now
        if row is None:
            return None
        return _sign_in(row["session_id"], row["user_id"], row["signed_in_at"], row["details"])

    @compute_method
    async def user_of(self, session_id: str) -> str | None:
        """Return the id of the user who is signed in in a client session; None without a sign-in.

        Raises:
            InvalidArgument: this cannot be the id of a client session.
        """
        sign_in = await self.get(session_id)
        return None if sign_in is None else sign_in.user_id

    @compute_method
    async def sessions_of(self, user_id: str) -> tuple[SignIn, ...]:
        """Return the sign-ins of a user in all their client sessions, the oldest first.

        Raises:
            InvalidArgument: this cannot be the id of a user.
        """
        _require_user(user_id)
        of_user = select(SESSIONS).where(_COLUMNS.user_id == user_id)
        async with self.database.session() as session:
            rows = await session.execute(of_user.order_by(_COLUMNS.signed_in_at, _COLUMNS.session_id))
            return tuple(_sign_in(row.session_id, row.user_id, row.signed_in_at, row.details) for row in rows)

    @command
    async def sign_in(self, session_id: str, user_id: str, details: dict[str, str] | None = None) -> None:
        """Sign a user in in a client session, and replace the sign-in there. The user is present from now on.

        Args:
            session_id: a secret of 32 to 300 characters that cannot be guessed: see `new_session_id`. Take a new id for
                each sign-in, and never an id that the client has chosen.
            user_id: the user: 1 to 300 characters.
            details: facts about the sign-in, such as the device and the address; up to 4 KiB.

        Raises:
            InvalidArgument: the id, the user or the details are not allowed.
        """
        _require_session(session_id)
        _require_user(user_id)
        encoded = _encode_details(_checked_details(details))
        async with self.database.operation() as operation:
            found = select(_COLUMNS.user_id).where(_COLUMNS.session_id == session_id).with_for_update()
            previous_user = await operation.session.scalar(found)
            now_s = runtime_of(self).clock.wall()
            row = {"session_id": session_id, "user_id": user_id, "details": encoded, "signed_in_at": now_s}
            await operation.session.execute(
                upsert(operation.session, SESSIONS, "session_id"), {**row, "seen_at": now_s}
            )
            self._invalidate(session_id, user_id)
            if previous_user not in (None, user_id):
                self._invalidate(session_id, previous_user)

    @command
    async def sign_out(self, session_id: str) -> bool:
        """End the sign-in in a client session; return whether there was one.

        Raises:
            InvalidArgument: this cannot be the id of a client session.
        """
        _require_session(session_id)
        async with self.database.operation() as operation:
            ended = delete(SESSIONS).where(_COLUMNS.session_id == session_id).returning(_COLUMNS.user_id)
            user_id = (await operation.session.execute(ended)).scalar_one_or_none()
            if user_id is not None:
                self._invalidate(session_id, user_id)
            return operation.result(user_id is not None)

    @command
    async def sign_out_everywhere(self, user_id: str) -> int:
        """End all sign-ins of a user; return how many there were.

        Raises:
            InvalidArgument: this cannot be the id of a user.
        """
        _require_user(user_id)
        async with self.database.operation() as operation:
            ended = delete(SESSIONS).where(_COLUMNS.user_id == user_id).returning(_COLUMNS.session_id)
            session_ids = (await operation.session.execute(ended)).scalars().all()
            for session_id in session_ids:
                self._invalidate(session_id, user_id)
            return operation.result(len(session_ids))

    @command
    async def sign_out_idle(self, unseen_for_s: float, limit: int = 1000) -> int:
        """End sign-ins in client sessions without activity for `unseen_for_s`; return how many, at most `limit`.

        Call it regularly, or the table grows without a limit. Repeat while it returns `limit`.

        Raises:
            InvalidArgument: the time is not longer than a presence, or `limit` is not 1 to 1000.
        """
        as_finite_timeout("unseen_for_s", unseen_for_s)
        if unseen_for_s < self.presence_timeout_s + CLOCK_TOLERANCE_S:
            raise InvalidArgument("it is too short: users seen within it may still be present", field="unseen_for_s")
        as_count("limit", limit, most=MAX_AT_ONCE)
        is_idle = _COLUMNS.seen_at < runtime_of(self).clock.wall() - unseen_for_s
        longest = select(_COLUMNS.session_id).where(is_idle).order_by(_COLUMNS.seen_at).limit(limit)
        async with self.database.operation() as operation:
            # The condition is checked twice, so a session that is active in between stays.
            found = longest.with_for_update(skip_locked=True)
            ended = delete(SESSIONS).where(_COLUMNS.session_id.in_(found), is_idle)
            rows = (await operation.session.execute(ended.returning(_COLUMNS.session_id, _COLUMNS.user_id))).all()
            for session_id, user_id in rows:
                self._invalidate_sign_in(session_id, user_id)
            return operation.result(len(rows))

    # -- who is present ------------------------------------------------------------------------------------------------
    async def touch(self, session_id: str) -> None:
        """Note the activity of a client session. Call it for each request, of any kind, outside of operations.

        It is a plain method that runs where it is called. Mostly it only looks at a result that is cached there. It
        writes once in `touch_interval_s`, and does not wait for replicas. Without a sign-in it does nothing.

        Raises:
            InvalidArgument: this cannot be the id of a client session.
        """
        seen_at = await self.seen_at(session_id)
        if seen_at is not None and self._is_long_ago(seen_at.timestamp()):
            await self.note_seen(session_id)

    @compute_method
    async def seen_at(self, session_id: str) -> datetime | None:
        """Return the last activity of a client session, to about `touch_interval_s`; None without a sign-in.

        Raises:
            InvalidArgument: this cannot be the id of a client session.
        """
        _require_session(session_id)
        row = await self.database.loader(SESSIONS).load(session_id)
        return None if row is None else datetime.fromtimestamp(row["seen_at"], UTC)

    @compute_method
    async def is_present(self, user_id: str) -> bool:
        """Return whether a user is present. It becomes false by itself `presence_timeout_s` after the last activity.

        Raises:
            InvalidArgument: this cannot be the id of a user.
        """
        _require_user(user_id)
        async with self.database.session() as session:
            seen_at = await session.scalar(select(func.max(_COLUMNS.seen_at)).where(_COLUMNS.user_id == user_id))
        if seen_at is None or self._end_of_presence(seen_at) <= runtime_of(self).clock.wall():
            return False
        expire_at(self._end_of_presence(seen_at))
        return True

    @compute_method
    async def present_users(self, limit: int = 100, after: str = "") -> tuple[str, ...]:
        """List the present users in the order of their ids: the first `limit` after the id `after`.

        A user whose presence has ended may be listed for one more second.

        Raises:
            InvalidArgument: `limit` is not 1 to 1000, or `after` cannot be the id of a user.
        """
        as_count("limit", limit, most=MAX_AT_ONCE)
        if after != "":
            _require_user(after, "after")
        await self.presence()
        now_s = runtime_of(self).clock.wall()
        page = self._present(now_s).where(_COLUMNS.user_id > after).order_by(_COLUMNS.user_id).limit(limit)
        async with self.database.session() as session:
            rows = (await session.execute(page)).all()
        if rows:
            expire_after_end(self._end_of_presence(min(row.seen_at for row in rows)), now_s)
        return tuple(row.user_id for row in rows)

    @compute_method
    async def present_count(self) -> int:
        """Return how many users are present. A user whose presence has ended may be counted for one more second."""
        await self.presence()
        now_s = runtime_of(self).clock.wall()
        present = self._present(now_s).subquery()
        async with self.database.session() as session:
            counted = await session.execute(select(func.count(), func.min(present.c.seen_at)).select_from(present))
            count, seen_first_at = counted.one()
        if seen_first_at is not None:
            expire_after_end(self._end_of_presence(seen_first_at), now_s)
        return int(count)

    @compute_method
    async def presence(self) -> None:
        """Stands for the set of present users: it is out of date when a user comes, or signs out."""
        await self.renewals()

    @compute_method(invalidation_delay=STEP_S)
    async def renewals(self) -> None:
        """Stands for activity so close to the end of a presence that others may have counted without the user.

        It is out of date one second after that, and `presence` with it. Further activity within that second costs
        nothing.
        """

    @command(barrier=False)  # requests wait for it, and its result is only accurate to `touch_interval_s` anyway
    async def note_seen(self, session_id: str) -> None:
        """Write the activity of a client session. `touch` calls it when that is due; otherwise it does nothing.

        Raises:
            InvalidArgument: this cannot be the id of a client session.
        """
        seen_at = await self.seen_at(session_id)
        if seen_at is None or not self._is_long_ago(seen_at.timestamp()):
            return
        is_session = _COLUMNS.session_id == session_id
        async with self.database.operation() as operation:
            found = select(_COLUMNS.user_id, _COLUMNS.seen_at).where(is_session).with_for_update()
            row = (await operation.session.execute(found)).one_or_none()
            if row is None or not self._is_long_ago(row.seen_at):  # written meanwhile by another process
                return
            now_s = runtime_of(self).clock.wall()
            await operation.session.execute(update(SESSIONS).where(is_session).values(seen_at=now_s))
            self.seen_at.invalidate(session_id)
            end_s = self._end_of_presence(row.seen_at)
            if end_s <= now_s:
                self._invalidate_presence(row.user_id)
            elif end_s < now_s + CLOCK_TOLERANCE_S:  # else all readers have counted the user as present
                self.is_present.invalidate(row.user_id)
                self.renewals.invalidate()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _is_long_ago(self, seen_at_s: float) -> bool:
        return runtime_of(self).clock.wall() >= seen_at_s + self.touch_interval_s

    def _end_of_presence(self, seen_at_s: float) -> float:
        return seen_at_s + self.presence_timeout_s

    def _present(self, now_s: float) -> Select[*tuple[Any, ...]]:
        """Return the query for the present users, and when they were last seen."""
        seen_at = func.max(_COLUMNS.seen_at).label("seen_at")
        is_present = _COLUMNS.seen_at > now_s - self.presence_timeout_s
        return select(_COLUMNS.user_id, seen_at).where(is_present).group_by(_COLUMNS.user_id)

    def _invalidate(self, session_id: str, user_id: str) -> None:
        self._invalidate_sign_in(session_id, user_id)
        self._invalidate_presence(user_id)

    def _invalidate_sign_in(self, session_id: str, user_id: str) -> None:
        self.get.invalidate(session_id)
        self.seen_at.invalidate(session_id)
        self.sessions_of.invalidate(user_id)

    def _invalidate_presence(self, user_id: str) -> None:
        self.is_present.invalidate(user_id)
        self.presence.invalidate()


def _sign_in(session_id: str, user_id: str, signed_in_at: float, details: bytes) -> SignIn:
    return SignIn(session_id, user_id, datetime.fromtimestamp(signed_in_at, UTC), _decode_details(details))


def _require_session(session_id: str) -> None:
    require_text("session_id", session_id, MAX_ID_CHARACTERS, MIN_SESSION_ID_CHARACTERS)


def _require_user(user_id: str, field: str = "user_id") -> None:
    require_text(field, user_id, MAX_ID_CHARACTERS)


def _checked_details(details: dict[str, str] | None) -> dict[str, str]:
    details = {} if details is None else details
    if not isinstance(details, dict) or not all(isinstance(text, str) for pair in details.items() for text in pair):
        raise InvalidArgument("details must be a dictionary of texts to texts", field="details")
    if len(_encode_details(details)) > MAX_DETAILS_BYTES:
        raise InvalidArgument(f"details must be {MAX_DETAILS_BYTES:,} bytes at most, as JSON", field="details")
    return details
