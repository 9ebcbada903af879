"""A key-value store in the app's database: reactive, with expiry, counted and listed by prefix.

*Groups* stand for the set of existing keys: `membership("users/")` returns nothing, and is invalidated when a key that
begins with "users/" comes or goes. A count and a list depend on one group: the group of their prefix up to its last
"/". So a new value for an existing key invalidates only the reads of that key. If "users/7/theme" comes or goes, that
invalidates the counts and lists of the folders "users/7/", "users/" and "", and of no other folder.

Keys that are kept alive, by setting them again before their end, neither come nor go. What they may concern is
invalidated by groups that wait for a step, `renewals`. So the counts of a folder cost the same for any number of such
keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, delete, func, or_, select

from fusion_cluster.bodies.expiry import expire_at
from fusion_cluster.catalogue.service import ComputeService, runtime_of
from fusion_cluster.commands import Operation, command
from fusion_cluster.database import Database
from fusion_cluster.database.schema import KEY_VALUES, MAX_ID_CHARACTERS
from fusion_cluster.database.upsert import upsert
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import compute_method
from fusion_cluster.quantities import as_count, as_finite_timeout
from fusion_cluster.services.checks import require_text
from fusion_cluster.services.shared_expiry import STEP_S, expire_after_end

MAX_KEY_CHARACTERS: Final = MAX_ID_CHARACTERS
MAX_VALUE_BYTES: Final = 1024 * 1024
MAX_KEYS_AT_ONCE: Final = 1000
"""The most keys that one call sets, lists or removes."""

CLOCK_TOLERANCE_S: Final = 5.0
"""How much the clocks of two machines may differ, and how long a commit may take, close to the end of a key's life."""

_COLUMNS: Final = KEY_VALUES.c


class KeyValueStore(ComputeService):
    """Stores bytes under keys.

    A *key* is a text of 1 to 300 characters; "/" in it makes folders. Case matters. A *value* is bytes, up to 1 MiB:
    encode what you like (`msgspec.json.encode(settings)`, `"text".encode()`). In JSON, a value travels in base64.

    A *prefix* is any text: "users/" and "users/al" are both allowed, and "" means every key. A prefix that does not end
    with "/" costs a little more: its reads are computed again when any key comes or goes in its folder (here "users/").

    Each key lives on the shard that owns it, each count and list on the shard that owns its prefix.
    """

    database: Database

    # -- reads ---------------------------------------------------------------------------------------------------------
    @compute_method
    async def get(self, key: str) -> bytes | None:
        """Return the value of a key; None if the key does not exist or its time is over. It expires with the key.

        Raises:
            InvalidArgument: this cannot be a key.
        """
        _require_key(key)
        row = await self.database.loader(KEY_VALUES).load(key)  # one query for all keys that are read now
        if row is None or not _is_alive(row["expires_at"], runtime_of(self).clock.wall()):
            return None
        if row["expires_at"] is not None:
            expire_at(row["expires_at"])
        value: bytes = row["value"]
        return value

    @compute_method
    async def count(self, prefix: str = "") -> int:
        """Return how many keys begin with `prefix`. A key whose time is over may be counted for one more second.

        Raises:
            InvalidArgument: a key cannot begin with this.
        """
        _require_prefix(prefix)
        await self.membership(_folder_of(prefix))
        now_s = runtime_of(self).clock.wall()
        alive = select(func.count(), func.min(_COLUMNS.expires_at)).where(*_beginning_with(prefix), _alive(now_s))
        async with self.database.session() as session:
            count, next_expiry = (await session.execute(alive)).one()
        expire_after_end(next_expiry, now_s)
        return int(count)

    @compute_method
    async def list(self, prefix: str = "", limit: int = 100, after: str = "") -> tuple[str, ...]:
        """List keys that begin with `prefix`, in the order of their characters' code points.

        These are the first `limit` keys after the key `after`, which need not exist. For the next page, give the last
        key of this page. A page with fewer than `limit` keys is the last. A key whose time is over may be listed for
        one more second.

        Raises:
            InvalidArgument: a key cannot begin with this, or `limit` is not 1 to 1000.
        """
        _require_prefix(prefix)
        as_count("limit", limit, most=MAX_KEYS_AT_ONCE)
        _require_prefix(after, "after")
        await self.membership(_folder_of(prefix))
        now_s = runtime_of(self).clock.wall()
        page = (
            select(_COLUMNS.key, _COLUMNS.expires_at)
            .where(*_beginning_with(prefix), _COLUMNS.key > after, _alive(now_s))
            .order_by(_COLUMNS.key)
            .limit(limit)
        )
        async with self.database.session() as session:
            rows = (await session.execute(page)).all()
        expire_after_end(min((row.expires_at for row in rows if row.expires_at is not None), default=None), now_s)
        return tuple(row.key for row in rows)

    @compute_method
    async def membership(self, folder: str) -> None:
        """Stands for the set of keys that begin with `folder`, which is "" or ends with "/".

        It is out of date when a key comes, or goes before its time. Count and list depend on it. Await it in your own
        compute methods that read the keys of a folder in other ways.

        Raises:
            InvalidArgument: it does not end with "/".
        """
        _require_prefix(folder, "folder")
        if _folder_of(folder) != folder:
            raise InvalidArgument(f"a folder ends with '/', {folder!r} does not", field="folder")
        await self.renewals(folder)

    @compute_method(invalidation_delay=STEP_S)
    async def renewals(self, folder: str) -> None:
        """Stands for the ends of the existing keys that begin with `folder`; membership depends on it.

        It is out of date one second after a key got an earlier end, or was set again so close to its end that others
        may have counted without it. Further changes within that second cost nothing.
        """

    # -- changes -------------------------------------------------------------------------------------------------------
    @command
    async def set(self, key: str, value: bytes, expires_in_s: float | None = None) -> None:
        """Set the value of a key, and replace the value that it has.

        Args:
            key: the key.
            value: its value.
            expires_in_s: after how many seconds it expires; None: never, also if the value before had an end.

        Raises:
            InvalidArgument: the key, the value or the time is not allowed.
        """
        _require_key(key)
        _require_value(value)
        await self._set({key: value}, expires_in_s)

    @command
    async def set_many(self, values: dict[str, bytes], expires_in_s: float | None = None) -> None:
        """Set the values of up to 1000 keys: all of them, or none.

        Raises:
            InvalidArgument: a key, a value, their number or the time is not allowed.
        """
        if not isinstance(values, dict) or not 1 <= len(values) <= MAX_KEYS_AT_ONCE:
            raise InvalidArgument(f"values must be 1 to {MAX_KEYS_AT_ONCE} keys with their values", field="values")
        for key, value in values.items():
            _require_key(key, "values")
            _require_value(value, "values")
        await self._set(values, expires_in_s)

    @command
    async def remove(self, key: str) -> bool:
        """Remove a key; return whether it existed.

        Raises:
            InvalidArgument: this cannot be a key.
        """
        _require_key(key)
        async with self.database.operation() as operation:
            removed = delete(KEY_VALUES).where(_COLUMNS.key == key).returning(_COLUMNS.expires_at)
            row = (await operation.session.execute(removed)).one_or_none()
            if row is not None:
                self.get.invalidate(key)
                self._invalidate_membership(key)
            return operation.result(row is not None and _is_alive(row.expires_at, runtime_of(self).clock.wall()))

    @command
    async def remove_expired(self, limit: int = 1000) -> int:
        """Remove rows whose time is over; return how many, at most `limit`. Repeat while it returns `limit`.

        Readers do not see these rows any more, so nothing is invalidated. Call it regularly, or the table grows without
        a limit.

        Raises:
            InvalidArgument: `limit` is not 1 to 1000.
        """
        as_count("limit", limit, most=MAX_KEYS_AT_ONCE)
        is_over = _COLUMNS.expires_at < runtime_of(self).clock.wall() - CLOCK_TOLERANCE_S
        oldest = select(_COLUMNS.key).where(is_over).order_by(_COLUMNS.expires_at).limit(limit)
        async with self.database.operation() as operation:
            # The condition is checked twice, so a key that is set again in between stays.
            found = oldest.with_for_update(skip_locked=True)
            removed = delete(KEY_VALUES).where(_COLUMNS.key.in_(found), is_over).returning(_COLUMNS.key)
            keys = (await operation.session.execute(removed)).all()
            return operation.result(len(keys))

    # -- inside --------------------------------------------------------------------------------------------------------
    async def _set(self, values: dict[str, bytes], expires_in_s: float | None) -> None:
        if expires_in_s is not None:
            as_finite_timeout("expires_in_s", expires_in_s)
        async with self.database.operation() as operation:
            expires_at = None if expires_in_s is None else runtime_of(self).clock.wall() + expires_in_s
            before = await _expiries(operation, values)
            rows = [{"key": key, "value": values[key], "expires_at": expires_at} for key in sorted(values)]
            await operation.session.execute(upsert(operation.session, KEY_VALUES, "key"), rows)
            now_s = runtime_of(self).clock.wall()
            for key in values:
                self.get.invalidate(key)
                if key not in before or not _is_alive(before[key], now_s):
                    self._invalidate_membership(key)
                elif not now_s + CLOCK_TOLERANCE_S < _end(before[key]) <= _end(expires_at):
                    for folder in _folders_of(key):
                        self.renewals.invalidate(folder)

    def _invalidate_membership(self, key: str) -> None:
        """Invalidate the counts and lists of all folders that hold the key."""
        for folder in _folders_of(key):
            self.membership.invalidate(folder)


async def _expiries(operation: Operation, keys: Iterable[str]) -> dict[str, float | None]:
    """Return when the existing ones of these keys expire; their rows are locked until the operation ends."""
    found = select(_COLUMNS.key, _COLUMNS.expires_at).where(_COLUMNS.key.in_(list(keys))).order_by(_COLUMNS.key)
    return {row.key: row.expires_at for row in await operation.session.execute(found.with_for_update())}


# -- time --------------------------------------------------------------------------------------------------------------
def _end(expires_at: float | None) -> float:
    return math.inf if expires_at is None else expires_at


def _is_alive(expires_at: float | None, now_s: float) -> bool:
    return now_s < _end(expires_at)


def _alive(now_s: float) -> ColumnElement[bool]:
    return or_(_COLUMNS.expires_at.is_(None), _COLUMNS.expires_at > now_s)


# -- keys and prefixes -------------------------------------------------------------------------------------------------
def _folder_of(prefix: str) -> str:
    return prefix[: prefix.rfind("/") + 1]


def _folders_of(key: str) -> list[str]:
    """Return all folders that hold a key, with "" among them."""
    return [""] + [key[:place] for place, character in enumerate(key, start=1) if character == "/"]


def _beginning_with(prefix: str) -> list[ColumnElement[bool]]:
    """Return the condition for keys that begin with `prefix`: a range, which the index serves (LIKE needs escapes)."""
    end = _first_after(prefix)
    return [_COLUMNS.key >= prefix] + ([_COLUMNS.key < end] if end else [])


def _first_after(prefix: str) -> str:
    """Return the first text after all texts that begin with `prefix`; "" if there is no such text. Databases compare
    UTF-8 byte by byte, which is the order of code points."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are not characters


def _require_key(key: str, field: str = "key") -> None:
    require_text(field, key, MAX_KEY_CHARACTERS)


def _require_prefix(prefix: str, field: str = "prefix") -> None:
    if prefix != "":
        require_text(field, prefix, MAX_KEY_CHARACTERS)


def _require_value(value: bytes, field: str = "value") -> None:
    if not isinstance(value, bytes) or len(value) > MAX_VALUE_BYTES:
        raise InvalidArgument(f"a value is bytes, {MAX_VALUE_BYTES:,} of them at most", field=field)
