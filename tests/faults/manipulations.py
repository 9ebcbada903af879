"""What can be done to the session, the connection and the transaction of an operation inside its block."""

from __future__ import annotations

from functools import partial
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, close_all_sessions
from sqlalchemy.orm import Session

from fusion_cluster import Operation
from tests.apps.shelves import ShelfRow
from tests.faults.manipulation import MANIPULATIONS, Kind, Manipulation, at_rest, ignoring_errors, manipulation, raw_of


# -- habits ------------------------------------------------------------------------------------------------------------
@manipulation(Kind.WORKS)
async def nothing(operation: Operation) -> None:
    pass


@manipulation(Kind.WORKS)
async def leave_the_session(operation: Operation) -> None:
    async with operation.session as session:
        session.add(ShelfRow(id=500, amount=1))


@manipulation(Kind.WORKS)
async def leave_session_and_begin(operation: Operation) -> None:
    async with operation.session as session, session.begin():
        session.add(ShelfRow(id=501, amount=1))


@manipulation(Kind.WORKS)
async def fail_in_begin(operation: Operation) -> None:
    try:
        async with operation.session.begin():
            await operation.session.merge(ShelfRow(id=502, amount=1))
            raise LookupError
    except LookupError:
        assert await operation.session.get(ShelfRow, 502) is None


@manipulation(Kind.WORKS)
async def begin_and_commit_it(operation: Operation) -> None:
    transaction = await operation.session.begin()
    await transaction.commit()


@manipulation(Kind.WORKS)
async def close(operation: Operation) -> None:
    await operation.session.close()


@manipulation(Kind.WORKS)
async def aclose(operation: Operation) -> None:
    await operation.session.aclose()


@manipulation(Kind.WORKS)
async def close_all(operation: Operation) -> None:
    await at_rest(close_all_sessions)


@manipulation(Kind.WORKS)
async def close_the_sync_session(operation: Operation) -> None:
    operation.session.sync_session.close()
    await operation.session.run_sync(lambda session: session.close())


@manipulation(Kind.WORKS)
async def flush_and_expunge_all(operation: Operation) -> None:
    await operation.session.flush()
    operation.session.expunge_all()


@manipulation(Kind.WORKS)
async def savepoints(operation: Operation) -> None:
    try:
        async with operation.session.begin_nested():
            await operation.session.merge(ShelfRow(id=503, amount=1))
            raise LookupError
    except LookupError:
        pass
    async with operation.session.begin_nested():
        await operation.session.merge(ShelfRow(id=504, amount=1))


@manipulation(Kind.WORKS)
async def a_savepoint_of_the_connection(operation: Operation) -> None:
    connection = await operation.session.connection()
    async with connection.begin_nested() as savepoint:
        await connection.execute(text("INSERT INTO shelves (id, amount) VALUES (505, 1)"))
        await savepoint.rollback()


@manipulation(Kind.WORKS)
async def savepoints_in_text(operation: Operation) -> None:
    await operation.session.execute(text("SAVEPOINT mine"))
    await operation.session.execute(text("INSERT INTO shelves (id, amount) VALUES (506, 1)"))
    await operation.session.execute(text(" /* not all */ ROLLBACK -- only\n TO mine"))
    await operation.session.execute(text("RELEASE SAVEPOINT mine"))


@manipulation(Kind.WORKS)
async def a_session_of_ones_own_on_the_connection(operation: Operation) -> None:
    async with AsyncSession(await operation.session.connection()) as session:
        session.add(ShelfRow(id=507, amount=1))
        await session.commit()


@manipulation(Kind.WORKS)
async def the_sessions_transaction_commits(operation: Operation) -> None:
    await operation.session.flush()
    transaction = operation.session.get_transaction()
    assert transaction is not None
    await transaction.commit()


@manipulation(Kind.WORKS)
async def words_in_strings(operation: Operation) -> None:
    await operation.session.execute(text("SELECT '; COMMIT', 'it''s; ROLLBACK' -- ; COMMIT\n"))
    await operation.session.execute(text("WITH commits AS (SELECT 1) SELECT * FROM commits /* ; COMMIT */"))


# -- refused -----------------------------------------------------------------------------------------------------------
@manipulation(Kind.REFUSED)
async def commit(operation: Operation) -> None:
    await operation.session.commit()


@manipulation(Kind.REFUSED)
async def rollback(operation: Operation) -> None:
    await operation.session.rollback()


@manipulation(Kind.REFUSED)
async def reset(operation: Operation) -> None:
    await operation.session.reset()


@manipulation(Kind.REFUSED)
async def invalidate(operation: Operation) -> None:
    await operation.session.invalidate()


@manipulation(Kind.REFUSED)
async def sync_commit(operation: Operation) -> None:
    await operation.session.run_sync(lambda session: session.commit())


@manipulation(Kind.REFUSED)
async def sync_rollback(operation: Operation) -> None:
    await operation.session.run_sync(lambda session: session.rollback())


@manipulation(Kind.REFUSED)
async def sync_reset(operation: Operation) -> None:
    operation.session.sync_session.reset()


@manipulation(Kind.REFUSED)
async def sync_invalidate(operation: Operation) -> None:
    operation.session.sync_session.invalidate()


@manipulation(Kind.REFUSED)
async def sync_prepare(operation: Operation) -> None:
    operation.session.sync_session.prepare()


STATEMENTS: Final = (
    "COMMIT",
    "commit work",
    "  \n\tCommit;",
    "/* now */ COMMIT",
    "-- now\nCOMMIT",
    "; COMMIT",
    "END",
    "END TRANSACTION",
    "ROLLBACK",
    "rollback transaction",
    "BEGIN",
    "COMMIT; BEGIN",
    "SELECT ';'; COMMIT",
    "SELECT 1; /* ' */ ROLLBACK; BEGIN IMMEDIATE",
)
POSTGRESQL_STATEMENTS: Final = (
    "/* a /* nested */ comment */ COMMIT",
    "ABORT",
    "START TRANSACTION",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "PREPARE TRANSACTION 'mine'",
    "SELECT $a$;$a$, E'\\';'; COMMIT",
)


def _statement(statement: str, *backends: str) -> None:
    async def by_text(operation: Operation) -> None:
        await operation.session.execute(text(statement.replace("\\", "\\\\").replace(":", "\\:")))

    async def by_the_driver(operation: Operation) -> None:
        await (await operation.session.connection()).exec_driver_sql(statement)

    for do in (by_text, by_the_driver):
        MANIPULATIONS.append(
            Manipulation(
                f"{statement!r} {do.__name__}",
                do,
                Kind.REFUSED,
                backends or ("sqlite", "postgresql"),
                is_statement=True,
            )
        )


for _sql in STATEMENTS:
    _statement(_sql)
for _sql in POSTGRESQL_STATEMENTS:
    _statement(_sql, "postgresql")


@manipulation(Kind.REFUSED, "sqlite")
async def the_raw_sqlite_connection_commits(operation: Operation) -> None:
    await (await raw_of(operation)).commit()


@manipulation(Kind.REFUSED, "sqlite")
async def the_raw_sqlite_connection_rolls_back(operation: Operation) -> None:
    await (await raw_of(operation)).rollback()


@manipulation(Kind.REFUSED, "sqlite")
async def a_raw_script(operation: Operation) -> None:
    await (await raw_of(operation)).executescript("BEGIN; SELECT 1")


@manipulation(Kind.REFUSED, "postgresql")
async def the_raw_postgresql_connection_commits(operation: Operation) -> None:
    await (await raw_of(operation)).execute("COMMIT; BEGIN")


@manipulation(Kind.REFUSED, "postgresql")
async def the_raw_postgresql_connection_fetches_a_commit(operation: Operation) -> None:
    await (await raw_of(operation)).fetch("COMMIT")


@manipulation(Kind.REFUSED, "postgresql")
async def the_raw_postgresql_connection_prepares_a_commit(operation: Operation) -> None:
    await (await raw_of(operation)).prepare("COMMIT AND CHAIN")


# -- what ends it ------------------------------------------------------------------------------------------------------
@manipulation(Kind.ENDS)
async def fail_in_the_sessions_block(operation: Operation) -> None:
    try:
        async with operation.session as session:
            session.add(ShelfRow(id=508, amount=1))
            raise LookupError
    except LookupError:
        pass


@manipulation(Kind.ENDS)
async def the_connection_commits(operation: Operation) -> None:
    await ignoring_errors((await operation.session.connection()).commit)


@manipulation(Kind.ENDS)
async def the_connection_rolls_back(operation: Operation) -> None:
    await (await operation.session.connection()).rollback()


@manipulation(Kind.ENDS)
async def the_connection_rolls_back_and_begins(operation: Operation) -> None:
    connection = await operation.session.connection()
    await connection.rollback()
    await ignoring_errors(connection.begin().start)
    await ignoring_errors(lambda: connection.execute(text("INSERT INTO shelves (id, amount) VALUES (509, 1)")))


@manipulation(Kind.ENDS)
async def the_connection_closes(operation: Operation) -> None:
    await (await operation.session.connection()).close()


@manipulation(Kind.ENDS)
async def the_connection_is_invalidated(operation: Operation) -> None:
    await (await operation.session.connection()).invalidate()


@manipulation(Kind.ENDS)
async def the_sessions_transaction_rolls_back(operation: Operation) -> None:
    transaction = operation.session.get_transaction() or operation.session.begin()
    await operation.session.flush()
    await transaction.rollback()


@manipulation(Kind.ENDS)
async def the_sync_sessions_transaction_rolls_back(operation: Operation) -> None:
    await operation.session.flush()

    def end(session: Session) -> None:
        transaction = session.get_transaction()
        assert transaction is not None
        transaction.rollback()

    await operation.session.run_sync(end)


@manipulation(Kind.ENDS)
async def the_connections_transaction_rolls_back(operation: Operation) -> None:
    transaction = (await operation.session.connection()).get_transaction()
    assert transaction is not None
    await transaction.rollback()


@manipulation(Kind.ENDS)
async def the_connections_transaction_commits(operation: Operation) -> None:
    transaction = (await operation.session.connection()).get_transaction()
    assert transaction is not None
    await ignoring_errors(transaction.commit)


@manipulation(Kind.ENDS)
async def the_connections_transaction_closes(operation: Operation) -> None:
    transaction = (await operation.session.connection()).get_transaction()
    assert transaction is not None
    await transaction.close()


@manipulation(Kind.ENDS)
async def a_flush_that_fails(operation: Operation) -> None:
    operation.session.add(ShelfRow(id=510, amount=None))
    await ignoring_errors(operation.session.flush)


@manipulation(Kind.ENDS, "sqlite")
async def sqlite_rolls_back_by_itself(operation: Operation) -> None:
    await operation.session.flush()
    statement = text("INSERT OR ROLLBACK INTO shelves (id, amount) VALUES (511, NULL)")
    await ignoring_errors(lambda: operation.session.execute(statement))
    await ignoring_errors(lambda: operation.session.execute(text("INSERT INTO shelves (id, amount) VALUES (512, 1)")))


@manipulation(Kind.ENDS, "sqlite", leaves_rows=True)
async def the_raw_sqlite_connection_rolls_back_in_text(operation: Operation) -> None:
    raw = await raw_of(operation)
    await raw.execute("ROLLBACK")
    await raw.execute("UPDATE shelves SET amount = 7 WHERE id = 1")


@manipulation(Kind.ENDS, "sqlite")
async def the_raw_sqlite_connection_rolls_back_and_begins(operation: Operation) -> None:
    raw = await raw_of(operation)
    await raw.execute("ROLLBACK")
    await raw.execute("BEGIN")


@manipulation(Kind.WORKS, "sqlite")
async def sqlite_itself_refuses_what_comes_past_the_driver(operation: Operation) -> None:
    raw = await raw_of(operation)
    for script in ("COMMIT", "SELECT 1; COMMIT; BEGIN"):
        await ignoring_errors(partial(raw._execute, raw._conn.executescript, script))
    await ignoring_errors(lambda: raw._execute(raw._conn.commit))
    assert raw.in_transaction


@manipulation(Kind.ENDS, "postgresql", leaves_rows=True)
async def the_protocol_of_postgresql_commits(operation: Operation) -> None:
    await operation.session.flush()
    raw = await raw_of(operation)
    await raw._protocol.query("COMMIT", 5)


@manipulation(Kind.ENDS, "postgresql", leaves_rows=True)
async def the_protocol_of_postgresql_commits_and_begins(operation: Operation) -> None:
    await operation.session.flush()
    raw = await raw_of(operation)
    await raw._protocol.query("COMMIT; BEGIN", 5)


@manipulation(Kind.ENDS, "postgresql")
async def a_procedure_that_commits(operation: Operation) -> None:
    """PostgreSQL refuses that in a transaction, which it takes for failed then."""
    await ignoring_errors(lambda: operation.session.execute(text("DO $$ BEGIN COMMIT; END $$")))


@manipulation(Kind.ENDS)
async def a_statement_that_fails(operation: Operation) -> None:
    if operation.session.get_bind().dialect.name == "sqlite":  # where the rest of the transaction is not touched by it
        await (await operation.session.connection()).rollback()
    await ignoring_errors(lambda: operation.session.execute(text("SELECT nonsense")))
