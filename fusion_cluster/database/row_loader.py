"""Loaders of rows, for `database.loader(...)` and `database.list_loader(...)`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Table
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from fusion_cluster.commands.operation import Operation
from fusion_cluster.database.batch import Wanted, by_key
from fusion_cluster.database.batch_loader import BatchLoader
from fusion_cluster.database.row_query import RowQuery
from fusion_cluster.errors import FusionError, UsageError
from fusion_cluster.runtime import Runtime

_DATA_EXCEPTION = "22"
"""The class of SQLSTATE for a faulty value."""

_MOST_LOADERS = 64
"""How many loaders of one entity are remembered; more occur only if an app makes up new orders all the time."""


class RowLoader(BatchLoader[Any, Any]):
    """Looks up the rows of a key.

    In the block of an operation on the same database the rows come from the operation's transaction, by a separate
    query, and belong to the operation's session.

    Args:
        session: gives a session to read with.
        began: tells whether an operation's transaction is on their database.
        query: finds the rows.
        gives_lists: each key gives a list of its rows, instead of its row or None.
        max_batch_size: how many keys one statement may be given.
        runtime: gives the runtime of the event loop that runs.
    """

    def __init__(
        self,
        session: Callable[[], AsyncSession],
        began: Callable[[Operation], bool],
        query: RowQuery,
        *,
        gives_lists: bool,
        max_batch_size: int,
        runtime: Callable[[], Runtime],
    ) -> None:
        super().__init__(self._look_up, max_batch_size=max_batch_size, runtime=runtime)
        self._session = session
        self._began = began
        self._query = query
        self._find = query.all_each if gives_lists else query.one_each
        self._gives_lists = gives_lists
        self._most = max_batch_size

    def __repr__(self) -> str:
        return f"<RowLoader {self._query!r}>"

    def _check(self, key: Any) -> None:
        width = self._query.width
        if width > 1 and not (isinstance(key, tuple) and len(key) == width):
            raise UsageError(f"{self._query!r}: a key is a tuple of {width} values, not {key!r}", field="key")

    def _value(self, found: Mapping[Wanted[Any], Any], wanted: Wanted[Any]) -> Any:
        rows = super()._value(found, wanted)
        return list(rows or ()) if self._gives_lists else rows

    async def _look_up(self, keys: Sequence[Any]) -> list[Any]:
        async with self._session() as session:
            return await self._each(session, keys)

    async def _each(self, session: AsyncSession, keys: Sequence[Any]) -> list[Any]:
        """Find the rows of each key; a key that the database refuses gets the error, and the others get their rows."""
        try:
            return await self._find(session, keys)
        except Exception as error:
            if not _is_about_a_key(error):
                raise
            if len(keys) == 1:
                return [error]
        half = len(keys) // 2
        return [*await self._each(session, keys[:half]), *await self._each(session, keys[half:])]

    async def _found_within(self, operation: Operation, keys: Sequence[Wanted[Any]]) -> Mapping[Wanted[Any], Any]:
        own: Operation | None = operation
        while own is not None and not (own.is_open and self._began(own)):
            own = own.surrounding
        if own is None:  # all of them are on other databases
            return await self._batched(keys)
        if own.task is not asyncio.current_task():
            raise UsageError(
                "an operation's transaction belongs to the task that opened it: look up several keys with load_many "
                "instead of in tasks"
            )
        found: list[Any] = []
        for start in range(0, len(keys), self._most):
            some = [wanted.key for wanted in keys[start : start + self._most]]
            found += await self._find(own.session, some)
        return by_key(keys, found)


class RowLoaders:
    """The loaders of a database: the same loader for the same look-up, wherever it is requested.

    Args:
        session: gives a session of the database to read with.
        began: tells whether an operation's transaction is on the database.
        url: its URL, with the driver.
        runtime: gives the runtime of the event loop that runs.
    """

    def __init__(
        self,
        session: Callable[[], AsyncSession],
        began: Callable[[Operation], bool],
        url: URL,
        *,
        runtime: Callable[[], Runtime],
    ) -> None:
        self._runtime = runtime
        self._session = session
        self._began = began
        self._backend = url.get_backend_name()
        self._most_parameters = url.get_dialect().insertmanyvalues_max_parameters
        # Entity and whether lists are given -> the loaders, each with its columns and order.
        self._known: dict[tuple[Any, bool], list[tuple[_Expressions, _Expressions, RowLoader]]] = {}

    def get(self, entity: Any, by: Any, order_by: Any, *, gives_lists: bool) -> RowLoader:
        """Return the loader; it is made at the first request.

        Raises:
            UsageError: see `RowQuery`.
        """
        if not isinstance(entity, type | Table):
            raise UsageError(f"{entity!r} is neither a mapped class nor a table", field="entity")
        columns, order = _expressions(by), _expressions(order_by)
        known = self._known.setdefault((entity, gives_lists), [])
        for others, other_order, loader in known:
            if _are_same(columns, others) and _are_same(order, other_order):
                return loader
        query = RowQuery(entity, columns, order, backend=self._backend)
        most = self._most_parameters // query.parameters_each
        loader = RowLoader(
            *(self._session, self._began, query),
            gives_lists=gives_lists,
            max_batch_size=most,
            runtime=self._runtime,
        )
        if len(known) == _MOST_LOADERS:
            del known[0]
        known.append((columns, order, loader))
        return loader


_Expressions = tuple[Any, ...]


def _expressions(given: Any) -> _Expressions:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def _are_same(ones: _Expressions, others: _Expressions) -> bool:
    return len(ones) == len(others) and all(
        one is other or (isinstance(one, ClauseElement) and isinstance(other, ClauseElement) and one.compare(other))
        for one, other in zip(ones, others, strict=True)
    )


def _is_about_a_key(error: Exception) -> bool:
    """Whether a query failed because of a key, and might succeed without that key."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        is_not_taken = isinstance(error, InterfaceError | ProgrammingError) and not state  # by SQLite's driver
        return isinstance(error, DataError) or is_not_taken or state.startswith(_DATA_EXCEPTION)
    return not isinstance(error, FusionError)  # errors of a column type, which converts keys, do count
