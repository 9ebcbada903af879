"""B.14: whatever is done to an operation's session, connection or transaction inside its block: what the command says,
what the database has and what readers get agree."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete

from fusion_cluster import App, ComputeService, Database, UsageError, command
from fusion_cluster.database.transaction_watch import control
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Base, ShelfRow, Shelves
from tests.faults.driver_manipulations import FUNCTIONS, HIDDEN, TRIGGERS
from tests.faults.manipulation import MANIPULATIONS, Kind, Manipulation
from tests.faults.manipulations import POSTGRESQL_STATEMENTS, STATEMENTS
from tests.log_entries import logged

pytest_plugins = ["tests.databases"]

OURS, LATER = 1, 2
"""The shelves that are changed before and after the manipulation."""


class OwnError(Exception):
    """Raised by the block."""


class Meddling(ComputeService):
    database: Database
    shelves: Shelves

    @command
    async def meddle(self, index: int, swallows: bool, raises: bool, nested: bool) -> None:
        if not nested:
            await self._meddle(MANIPULATIONS[index], swallows, raises)
            return
        async with self.database.operation():
            await self._meddle(MANIPULATIONS[index], swallows, raises)

    async def _meddle(self, manipulation: Manipulation, swallows: bool, raises: bool) -> None:
        async with self.database.operation() as operation:
            await operation.session.merge(ShelfRow(id=OURS, amount=1))
            self.shelves.amount.invalidate(OURS)
            await operation.session.flush()
            try:
                await manipulation.do(operation)
            except UsageError:
                if not swallows:
                    raise
            self.shelves.amount.invalidate(LATER)
            try:
                await operation.session.merge(ShelfRow(id=LATER, amount=1))
                await operation.session.flush()
            except Exception:
                if not swallows:
                    raise
            if raises:
                raise OwnError

    @command
    async def clear(self) -> None:
        async with self.database.operation() as operation:
            await operation.session.execute(delete(ShelfRow))
            for number in (OURS, LATER):
                self.shelves.amount.invalidate(number)


@pytest.fixture
async def host(database: Database) -> AsyncIterator[LocalHost]:
    await database.create_tables(Base.metadata)
    async with App("meddling", services=[Shelves, Meddling], database=database).local() as host:
        yield host
        host.graph.validate()


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in another"])
@pytest.mark.parametrize("raises", [False, True], ids=["succeeds", "raises"])
@pytest.mark.parametrize("swallows", [False, True], ids=["an error leaves the block", "errors are swallowed"])
async def test_whatever_is_done_in_an_operation_all_agree(
    host: LocalHost, database: Database, swallows: bool, raises: bool, nested: bool
) -> None:
    wrong = []
    backend = database.url.partition("+")[0]
    assert sum(backend in manipulation.backends for manipulation in MANIPULATIONS) > 50
    for index, manipulation in enumerate(MANIPULATIONS):
        if backend in manipulation.backends and not (manipulation.is_statement and (nested or raises)):
            try:
                await _try(host, index, swallows=swallows, raises=raises, nested=nested)
            except AssertionError as error:
                wrong.append(f"{manipulation.name}: {error}".partition("\nassert")[0])
    assert not wrong, "\n".join(wrong)


async def _try(host: LocalHost, index: int, *, swallows: bool, raises: bool, nested: bool) -> None:
    manipulation = MANIPULATIONS[index]
    shelves, meddling = host.service(Shelves), host.service(Meddling)
    await meddling.clear()
    assert [await shelves.amount(OURS), await shelves.amount(LATER)] == [0, 0]
    command_id = uuid.uuid4().hex
    said: Exception | None = None
    try:
        await host.carry_out(meddling.meddle.invocation((index, swallows, raises, nested), command_id))
    except Exception as error:
        said = error
    rows = [await _amount(meddling.database, OURS), await _amount(meddling.database, LATER)]
    shown = [await shelves.amount(OURS), await shelves.amount(LATER)]
    is_logged = command_id in await logged(meddling.database)

    assert shown == rows, f"readers get {shown}, the database has {rows}, the command has said {said!r}"
    assert is_logged == (said is None), f"logged: {is_logged}, but the command has said {said!r}"
    kind = manipulation.kind_in_another if nested else manipulation.kind
    works = kind is Kind.WORKS or (kind is Kind.REFUSED and swallows)
    if works and not raises:
        assert said is None, f"it has failed: {said!r}"
    elif works:
        assert isinstance(said, OwnError), f"it should have failed as the block did: {said!r}"
    elif not raises or not swallows:
        assert said is not None, "nobody is told that nothing was committed"
    if not works and not raises and swallows:
        assert isinstance(said, UsageError), f"it is not said what to do instead: {said!r}"
        assert "begin_nested" in str(said)
    if said is None:
        assert rows == [1, 1], f"it has succeeded, and the database has {rows}"
    elif not manipulation.leaves_rows:
        assert rows == [0, 0], f"it has failed ({said!r}), and the database has {rows}"
    elif swallows:
        assert isinstance(said, UsageError), f"it does not say that rows may be committed: {said!r}"
        assert "may be committed" in str(said)


async def _amount(database: Database, shelf_id: int) -> int:
    async with database.session() as session:
        row = await session.get(ShelfRow, shelf_id)
        return row.amount if row else 0


@pytest.mark.parametrize("sql", [*STATEMENTS, *POSTGRESQL_STATEMENTS, *HIDDEN])
def test_a_statement_that_begins_or_ends_a_transaction_is_recognised(sql: str) -> None:
    assert control(sql, is_postgresql=True)
    if sql in STATEMENTS:
        assert control(sql, is_postgresql=False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT 'a; COMMIT'",
        "UPDATE t SET a = 'it''s; COMMIT'",
        "SELECT 1 -- ; COMMIT",
        "SELECT 1 /* ; COMMIT */",
        "ROLLBACK TO a",
        "rollback work to savepoint a",
        "ROLLBACK /* x */ TRANSACTION TO a",
        "SAVEPOINT a",
        "RELEASE a",
        "PREPARE mine AS SELECT 1",
        "commitments",
        "SET TRANSACTION READ ONLY",
        "INSERT INTO ends VALUES (1)",
        "",
    ],
)
@pytest.mark.parametrize("is_postgresql", [False, True])
def test_any_other_statement_is_let_through(sql: str, is_postgresql: bool) -> None:
    assert control(sql, is_postgresql=is_postgresql) == ""


def test_each_database_has_its_own_quotes_and_bodies() -> None:
    for sql in ('SELECT "; COMMIT" FROM [; COMMIT], `; COMMIT`', *TRIGGERS):
        assert control(sql, is_postgresql=False) == ""
    for sql in ("SELECT $x$; COMMIT; $$ $x$, E'\\'; COMMIT'", *FUNCTIONS):
        assert control(sql, is_postgresql=True) == ""
    assert control(f"{TRIGGERS[0]}; END", is_postgresql=False) == "end"
