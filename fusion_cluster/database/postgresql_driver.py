"""PostgreSQL's driver: connections of asyncpg that know whose transaction they are in, and leave its end to its owner.

The mark of an operation's transaction is a setting that is local to the transaction. It goes with the BEGIN, and what
the operation writes last, its entry in the log, is written only where the mark still is.
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
"""How asyncpg's own `Transaction` ends, which takes itself for ended even if that is refused."""


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
        """The transaction that begins with the next statement is that of an operation; None: it is not."""
        self._fusion_watch = watch
        if watch is not None:
            # One that is lost has not been ended by anybody.
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
