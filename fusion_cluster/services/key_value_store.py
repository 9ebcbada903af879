"""A key-value store in the app's database: reactive, with expiry, counted and listed by prefix.

Which keys there are is told by *groups*: `membership("users/")` returns nothing, and is invalidated when a key that
begins with "users/" comes or goes. A count and a list depend on one group, that of their prefix up to its last "/". So
a new value for a key that is there concerns the readers of that key alone, and "users/7/theme" that comes or goes
concerns the counts and lists of "users/7/", "users/" and "", and those of no other folder.

Keys that are kept alive, by setting them again before their end, come and go for nobody. What that may concern is told
by groups that wait for a step, `renewals`: so the counts of a folder cost the same for any number of such keys.
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
"""By how much the clocks of two hosts may differ, and how long a commit may take, close to the end of a key's life."""

_COLUMNS: Final = KEY_VALUES.c


class KeyValueStore(ComputeService):
    """Bytes under keys.

    A *key* is a text of 1 to 300 characters; "/" in it makes folders. Case matters. A *value* is bytes, up to 1 MiB:
    encode what you like (`msgspec.json.encode(settings)`, `"text".encode()`); as JSON it travels in base64.

    A *prefix* is any text: "users/" and "users/al" are both good, and "" is every key. One that does not end with "/"
    costs a little more, as it is computed again for whatever comes or goes in its folder, "users/" here.

    Each key lives on the shard that owns it, each count and list on the one that owns its prefix.
    """

    database: Database

    # -- reads ---------------------------------------------------------------------------------------------------------
    @compute_method
    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None: there is none, or its time is over. It expires by itself when that ends.

        Raises:
            InvalidArgument: this cannot be a key.
        """
        _require_key(key)
        row = await self.database.loader(KEY_VALUES).load(key)  # with all that are asked for now, one query
        if row is None or not _is_alive(row["expires_at"], runtime_of(self).clock.wall()):
            return None
        if row["expires_at"] is not None:
            expire_at(row["expires_at"])
        value: bytes = row["value"]
        return value

    @compute_method
    async def count(self, prefix: str = "") -> int:
        """How many keys begin with `prefix`. One whose time is over may be counted for a second more.

        Raises:
            InvalidArgument: no key can begin so.
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
        """Keys that begin with `prefix`, in the order of their characters' code points.

        The first `limit` of them that come after the key `after`, whether that is there or not: for the next page, the
        last key of this one. A page with fewer than `limit` is the last. A key whose time is over may be listed for a
        second more.

        Raises:
            InvalidArgument: no key can begin so, or `limit` is not 1 to 1000.
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
        """Stands for which keys there are that begin with `folder`, which is "" or ends with "/".

        It is out of date when one comes, or goes before its time; count and list depend on it. Await it in a compute
        method of your own that reads the keys of a folder by other ways.

        Raises:
            InvalidArgument: it does not end with "/".
        """
        _require_prefix(folder, "folder")
        if _folder_of(folder) != folder:
            raise InvalidArgument(f"a folder ends with '/', {folder!r} does not", field="folder")
        await self.renewals(folder)

    @compute_method(invalidation_delay=STEP_S)
    async def renewals(self, folder: str) -> None:
        """Stands for the ends of the keys that are there and begin with `folder`; membership depends on it.

        It is out of date a second after one of them was given an end that is nearer, or was set again close to its end,
        when others may have counted without it. What comes within that second costs nothing.
        """

    # -- changes -------------------------------------------------------------------------------------------------------
    @command
    async def set(self, key: str, value: bytes, expires_in_s: float | None = None) -> None:
        """Give a key a value, in the place of the one it has.

        Args:
            key: the key.
            value: its value.
            expires_in_s: for how long it has it; None: for good, also if the value before had an end.

        Raises:
            InvalidArgument: the key, the value or the time cannot be.
        """
        _require_key(key)
        _require_value(value)
        await self._set({key: value}, expires_in_s)

    @command
    async def set_many(self, values: dict[str, bytes], expires_in_s: float | None = None) -> None:
        """Give up to 1000 keys their values, all or none of them.

        Raises:
            InvalidArgument: a key, a value, their number or the time cannot be.
        """
        if not isinstance(values, dict) or not 1 <= len(values) <= MAX_KEYS_AT_ONCE:
            raise InvalidArgument(f"values must be 1 to {MAX_KEYS_AT_ONCE} keys with their values", field="values")
        for key, value in values.items():
            _require_key(key, "values")
            _require_value(value, "values")
        await self._set(values, expires_in_s)

    @command
    async def remove(self, key: str) -> bool:
        """Remove a key; returns whether there was one.

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
        """Remove rows whose time is over; returns how many, at most `limit`: call it again as long as it is that many.

        Nobody sees them any more, so nothing is invalidated. Call it now and then, lest the table grow for ever.

        Raises:
            InvalidArgument: `limit` is not 1 to 1000.
        """
        as_count("limit", limit, most=MAX_KEYS_AT_ONCE)
        is_over = _COLUMNS.expires_at < runtime_of(self).clock.wall() - CLOCK_TOLERANCE_S
        oldest = select(_COLUMNS.key).where(is_over).order_by(_COLUMNS.expires_at).limit(limit)
        async with self.database.operation() as operation:
            # A key that is set again in between is asked twice whether its time is over, and stays.
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
        """Tell the counts and lists of all folders that the key is in."""
        for folder in _folders_of(key):
            self.membership.invalidate(folder)


async def _expiries(operation: Operation, keys: Iterable[str]) -> dict[str, float | None]:
    """When the keys that are there expire. They stay as they are until the operation ends."""
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
    """All folders that a key is in, "" among them."""
    return [""] + [key[:place] for place, character in enumerate(key, start=1) if character == "/"]


def _beginning_with(prefix: str) -> list[ColumnElement[bool]]:
    """The keys that begin with `prefix`, as a range, which the index serves. (To LIKE, `%` and `_` mean something.)"""
    end = _first_after(prefix)
    return [_COLUMNS.key >= prefix] + ([_COLUMNS.key < end] if end else [])


def _first_after(prefix: str) -> str:
    """The first text after all that begin with `prefix`; "" if there is none. Databases compare UTF-8 byte by byte,
    which is the order of code points."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters


def _require_key(key: str, field: str = "key") -> None:
    require_text(field, key, MAX_KEY_CHARACTERS)


def _require_prefix(prefix: str, field: str = "prefix") -> None:
    if prefix != "":
        require_text(field, prefix, MAX_KEY_CHARACTERS)


def _require_value(value: bytes, field: str = "value") -> None:
    if not isinstance(value, bytes) or len(value) > MAX_VALUE_BYTES:
        raise InvalidArgument(f"a value is bytes, {MAX_VALUE_BYTES:,} of them at most", field=field)
