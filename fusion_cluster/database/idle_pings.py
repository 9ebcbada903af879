"""Checks of pooled connections: the server is asked only if the connection has not been used for a while.

SQLAlchemy's `pool_pre_ping` asks each time: with asyncpg that is three round trips, beside the four of a short
transaction. A connection that the server has closed is known as closed without asking. A connection that was used a
moment ago and is lost all the same fails when it is used, as any connection may at any time.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

from fusion_cluster.runtime import SYSTEM_CLOCK

PING_AFTER_S: Final = 1.0
"""How long a connection may be idle and still be used without asking."""

_RETURNED: Final = "fusion_returned_s"

_clock: Final = SYSTEM_CLOCK.monotonic
"""Real time: servers live in it."""


def pings_when_idle(engine: AsyncEngine) -> None:
    """Let the pool of an engine test idle connections before it gives them out, and drop dead ones."""
    dialect: Any = engine.dialect

    def on_return(connection: Any, record: Any) -> None:
        record.info[_RETURNED] = _clock()

    def on_checkout(connection: Any, record: Any, proxy: object) -> None:
        returned_s = record.info.get(_RETURNED)
        if returned_s is None:  # it is new
            return
        try:
            is_alive = not _is_closed(connection.driver_connection) and (
                _clock() - returned_s < PING_AFTER_S or dialect.do_ping(connection)
            )
        except Exception as error:
            raise InvalidatePoolError from error
        if not is_alive:
            raise InvalidatePoolError

    event.listen(engine.sync_engine, "checkin", on_return)
    event.listen(engine.sync_engine, "checkout", on_checkout)


def _is_closed(driver: Any) -> bool:
    """Whether asyncpg, or psycopg, knows the connection as closed."""
    is_closed = getattr(driver, "is_closed", None)
    return bool(is_closed() if is_closed is not None else getattr(driver, "closed", False))
