"""What can be done to an operation by way of the driver, and statements that are not what they seem to be."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sqlalchemy import text

from fusion_cluster import Operation
from tests.faults.manipulation import Kind, ignoring_errors, manipulation, raw_of

TRIGGERS: Final = (
    "CREATE TRIGGER IF NOT EXISTS t AFTER INSERT ON shelves BEGIN SELECT 1; END",
    "create temp trigger if not exists t after insert on shelves begin select 1; select 2;\nend;",
    "CREATE TRIGGER IF NOT EXISTS t AFTER INSERT ON shelves BEGIN SELECT CASE WHEN 1 THEN 2 END; END -- it",
)
FUNCTIONS: Final = (
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$",
)
HIDDEN: Final = (
    "SELECT (ARRAY[']'''])[1]; COMMIT; BEGIN; SELECT ']'",
    "SELECT 1 AS a$b$; COMMIT; BEGIN; SELECT 1 AS a$b$",
    "SELECT 1 ` 1; COMMIT; BEGIN; SELECT 1 ` 1",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END; END",
)
"""Statements of PostgreSQL in which a COMMIT is no part of a string or a name."""


async def _adapted(operation: Operation) -> Any:
    return (await (await operation.session.connection()).get_raw_connection()).dbapi_connection


async def _end_adapted(operation: Operation, how: str) -> None:
    adapted = await _adapted(operation)
    await operation.session.run_sync(lambda _: getattr(adapted, how)())


@manipulation(Kind.REFUSED, "sqlite")
async def the_adapted_sqlite_connection_commits(operation: Operation) -> None:
    await _end_adapted(operation, "commit")


@manipulation(Kind.REFUSED, "sqlite")
async def the_adapted_sqlite_connection_rolls_back(operation: Operation) -> None:
    await _end_adapted(operation, "rollback")


@manipulation(Kind.ENDS, "postgresql")
async def the_adapted_postgresql_connection_commits(operation: Operation) -> None:
    await ignoring_errors(partial(_end_adapted, operation, "commit"))


@manipulation(Kind.ENDS, "postgresql")
async def the_adapted_postgresql_connection_rolls_back(operation: Operation) -> None:
    await ignoring_errors(partial(_end_adapted, operation, "rollback"))


@manipulation(Kind.ENDS)
async def the_connection_is_taken_out_of_the_pool(operation: Operation) -> None:
    (await (await operation.session.connection()).get_raw_connection()).invalidate()


@manipulation(Kind.ENDS, "postgresql")
async def a_statement_is_cancelled(operation: Operation) -> None:
    """The driver cannot go on with its connection."""
    await operation.session.flush()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await operation.session.execute(text("SELECT pg_sleep(60)"))


@manipulation(Kind.WORKS, "sqlite")
async def triggers_are_made(operation: Operation) -> None:
    for trigger in TRIGGERS:
        await operation.session.execute(text(trigger))
        await operation.session.execute(text("DROP TRIGGER t"))


@manipulation(Kind.WORKS, "postgresql")
async def functions_are_made(operation: Operation) -> None:
    for function in FUNCTIONS:
        await operation.session.execute(text(function))
        await operation.session.execute(text("DROP FUNCTION f"))


@manipulation(Kind.REFUSED, "postgresql")
async def a_commit_is_hidden(operation: Operation) -> None:
    raw = await raw_of(operation)
    for statement in HIDDEN[:-1]:
        await ignoring_errors(partial(raw.execute, statement))
    await raw.execute(HIDDEN[-1])
