"""What is done to an operation inside its block, and what becomes of it: the kinds, and the list of them all."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import IllegalStateChangeError

from fusion_cluster import Operation


class Kind(enum.Enum):
    """What becomes of it."""

    WORKS = "the operation goes on, and commits at its end"
    REFUSED = "an error at once, and nothing has happened"
    ENDS = "the operation cannot commit any more, and its command fails"


@dataclass(frozen=True)
class Manipulation:
    """One of them.

    Attributes:
        name: in words, or the statement.
        do: does it.
        kind: what becomes of it.
        backends: the databases on which it is one.
        leaves_rows: it has made rows durable.
        is_statement: it is one of many statements.
        kind_in_another: what becomes of it in an operation within another one, which is a savepoint.
    """

    name: str
    do: Callable[[Operation], Awaitable[object]]
    kind: Kind
    backends: tuple[str, ...] = ("sqlite", "postgresql")
    leaves_rows: bool = False
    is_statement: bool = False

    @property
    def kind_in_another(self) -> Kind:
        return Kind.ENDS if self.name == "the sessions transaction commits" else self.kind


MANIPULATIONS: Final[list[Manipulation]] = []


def manipulation(
    kind: Kind, *backends: str, leaves_rows: bool = False
) -> Callable[[Callable[[Operation], Awaitable[object]]], Callable[[Operation], Awaitable[object]]]:
    def add(do: Callable[[Operation], Awaitable[object]]) -> Callable[[Operation], Awaitable[object]]:
        name = do.__name__.replace("_", " ")
        MANIPULATIONS.append(Manipulation(name, do, kind, backends or ("sqlite", "postgresql"), leaves_rows))
        return do

    return add


async def raw_of(operation: Operation) -> Any:
    connection = await (await operation.session.connection()).get_raw_connection()
    return connection.driver_connection


async def ignoring_errors(call: Callable[[], Any]) -> None:
    with suppress(Exception):
        await call()


async def at_rest(close_all: Callable[[], Awaitable[None]]) -> None:
    """Do what SQLAlchemy refuses while the session of another task is in the midst of something."""
    while True:
        try:
            return await close_all()
        except IllegalStateChangeError:
            await asyncio.sleep(0)
