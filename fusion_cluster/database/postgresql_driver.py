"""PostgreSQL's driver: asyncpg connections that know the operation of their transaction, and let only it end it.

The mark of an operation's transaction is a setting that is local to the transaction. It is set with the BEGIN. The
operation's last write, its entry in the log, is made only if the mark is still there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from fusion_cluster.database.transaction_watch import TransactionWatch, set_mark
from fusion_cluster.errors import UsageError

_WITH_SQL: Final = ("executemany", "prepare", "fetch", "fetchval", "fetchrow", "fetchmany", "cursor")
"""The methods, besides `execute`, whose first argument is a statement."""

_OWN_ENDS: Final = ("COMMIT;", "ROLLBACK;")
"""The statements that end asyncpg's own `Transaction`, which counts itself as ended even if they are refused."""


class Connection(asyncpg.Connection):  # type: ignore[type-arg, misc, unused-ignore]
    """A connection that refuses to end the transaction of an operation."""

    _fusion_watch: TransactionWatch | None = None

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """As in asyncpg; a BEGIN sets the mark of the operation that begins."""
        watch = self._fusion_watch
        if watch is not None and not watch.is_marked and query.startswith("BEGIN"):
            query = f"{query} {set_mark(watch)}"
            watch.is_marked = True
        elif watch is not None:
            self._check_end(watch, query)
        status: str = await super().execute(query, *args, **options)
        return status

    def _check_end(self, watch: TransactionWatch, query: str) -> None:
        try:
            watch.check_statement(query)
        except UsageError:
            if query in _OWN_ENDS:
                watch.note("a commit or rollback of the driver, which was refused")
            raise

    def fusion_begins(self, watch: TransactionWatch | None) -> None:
        """Note that the next statement begins the transaction of an operation; None: of no operation."""
        self._fusion_watch = watch
        if watch is not None:
            # A lost connection was not ended by a statement.
            watch.stands = lambda: not watch.is_marked or self.is_closed() or self.is_in_transaction()


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Connection, query: str, *args: Any, **options: Any) -> Any:
        if self._fusion_watch is not None:
            self._fusion_watch.check_statement(query)
        return method(self, query, *args, **options)

    return call


for _name in _WITH_SQL:
    setattr(Connection, _name, _checked(getattr(asyncpg.Connection, _name)))


async def connect(*args: Any, **options: Any) -> Any:
    """As `asyncpg.connect`, for SQLAlchemy's `async_creator_fn`."""
    return await asyncpg.connect(*args, connection_class=Connection, **options)
