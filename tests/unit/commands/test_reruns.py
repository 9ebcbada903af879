"""B.7: a command that the database gave up for another one's sake is run again; nothing else is, nor after a commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from sqlalchemy import Update, insert, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from fusion_cluster import App, ComputeService, Database, command
from fusion_cluster.commands import CommandResult, reruns, running_command
from fusion_cluster.commands.reruns import Reruns
from fusion_cluster.errors import DatabaseUnavailable
from fusion_cluster.host import LocalHost
from tests.apps.counters import Base, CounterRow, counts
from tests.apps.shelves import Gate
from tests.log_entries import logged
from tests.waiting import until, until_so

pytest_plugins = ["tests.databases"]

ID = "made by the client"
GIVE_UP = "DO $$ BEGIN RAISE EXCEPTION 'given up' USING ERRCODE = '40001'; END $$"
"""What makes PostgreSQL give a transaction up."""


class Accounts(ComputeService):
    database: Database

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.gate: Gate | None = None

    def note(self) -> int:
        """Note that a body has begun; returns how many have."""
        running = running_command()
        assert running is not None
        self.runs.append(running.command_id)
        return len(self.runs)

    async def at_first(self, run: int) -> None:
        """Wait in the first run."""
        if run == 1 and self.gate is not None:
            await self.gate.pass_through()

    @command
    async def move(self, source: str, target: str) -> str:
        run = self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
            await operation.session.execute(_add(source, -1))
            await self.at_first(run)
            await operation.session.execute(_add(target, 1))
        return f"moved in run {run}"

    @command
    async def double(self, name: str) -> str:
        """Reads and writes, as if it were alone."""
        run = self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            row = await operation.session.get_one(CounterRow, name)
            await self.at_first(run)
            row.count *= 2
        return f"doubled in run {run}"

    @command
    async def bump(self, name: str) -> str:
        run = self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(_add(name, 1))
            await self.at_first(run)
        return f"bumped in run {run}"

    @command
    async def execute(self, statement: str) -> None:
        self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(text(statement))

    @command
    async def set_all(self, count: object) -> None:
        self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(update(CounterRow).values(count=count))

    @command
    async def insert_twice(self, name: str) -> None:
        self.note()
        async with self.database.operation() as operation:
            for _ in range(2):
                await operation.session.execute(insert(CounterRow).values(name=name, count=1))

    @command
    async def bump_and_execute(self, name: str, statement: str) -> None:
        self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(_add(name, 1))
        async with self.database.session() as session:
            await session.execute(text(statement))

    @command
    async def call_out(self, name: str) -> None:
        """Something else than the database fails."""
        self.note()
        async with self.database.operation() as operation:
            await operation.session.execute(_add(name, 1))
            raise ConnectionResetError("by the bank")


def _add(name: str, count: int) -> Update:
    return update(CounterRow).where(CounterRow.name == name).values(count=CounterRow.count + count)


@asynccontextmanager
async def accounts_host(database: Database) -> AsyncIterator[LocalHost]:
    """A host with two accounts of ten each."""
    await database.create_tables(Base.metadata)
    async with database.operation() as operation:
        operation.session.add_all([CounterRow(name=name, count=10) for name in "ab"])
    async with App("accounts", [Accounts], database=database).local() as host:
        yield host


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reruns, "LONGEST_PAUSE_S", 0.05)


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[LocalHost]:
    async with accounts_host(Database(database_url)) as host:
        yield host


@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[LocalHost]:
    async with accounts_host(Database(postgres_url)) as host:
        yield host


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[LocalHost]:
    async with accounts_host(Database(f"sqlite:///{tmp_path}/accounts.db", busy_timeout_s=0.05)) as host:
        yield host


def accounts(host: LocalHost) -> Accounts:
    return host.service(Accounts)


async def run(host: LocalHost, method: str, *arguments: object, command_id: str = ID) -> CommandResult:
    return await host.carry_out(host.command(f"Accounts.{method}").invocation(arguments, command_id))


async def is_waiting_for_a_lock(database: Database) -> object:
    async with database.session() as session:
        return await session.scalar(
            text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        )


# -- what is run again -------------------------------------------------------------------------------------------------
async def test_of_two_commands_that_deadlock_one_is_run_again(postgresql: LocalHost) -> None:
    service = accounts(postgresql)
    service.gate = gate = Gate()
    first = asyncio.create_task(run(postgresql, "move", "a", "b", command_id="first"))
    await gate.reached.wait()
    second = asyncio.create_task(run(postgresql, "move", "b", "a", command_id="second"))
    await until_so(lambda: is_waiting_for_a_lock(service.database))
    gate.opened.set()
    results = await asyncio.gather(first, second)
    assert len(service.runs) == 3
    assert sorted(result.value for result in results)[1:] == ["moved in run 3"]
    assert not any(result.is_replayed for result in results)
    assert await counts(service.database) == {"a": 10, "b": 10}
    assert sorted(map(str, await logged(service.database))) == ["first", "second"]


async def test_a_command_that_cannot_be_serialized_is_run_again_with_the_same_id(postgresql: LocalHost) -> None:
    service = accounts(postgresql)
    service.gate = gate = Gate()
    running = asyncio.create_task(run(postgresql, "double", "a"))
    await gate.reached.wait()
    async with service.database.operation() as operation:
        await operation.session.execute(_add("a", 5))
    gate.opened.set()
    assert await running == CommandResult("doubled in run 2")
    assert service.runs == [ID, ID]
    assert await counts(service.database) == {"a": 30, "b": 10}
    assert await logged(service.database) == [ID]


async def test_a_busy_file_is_waited_for_longer_than_its_timeout(sqlite: LocalHost, tmp_path: Path) -> None:
    service = accounts(sqlite)
    with closing(sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        running = asyncio.create_task(run(sqlite, "bump", "a"))
        await until(lambda: len(service.runs) > 2)
        assert not running.done()
        other.execute("ROLLBACK")
        result = await running
    assert result.value == f"bumped in run {len(service.runs)}"
    assert set(service.runs) == {ID}
    assert await counts(service.database) == {"a": 11, "b": 10}


async def test_without_an_id_of_the_callers_it_is_the_same(postgresql: LocalHost) -> None:
    service = accounts(postgresql)
    service.gate = gate = Gate()
    running = asyncio.create_task(service.double("a"))
    await gate.reached.wait()
    async with service.database.operation() as operation:
        await operation.session.execute(_add("a", 5))
    gate.opened.set()
    assert await running == "doubled in run 2"
    assert len(set(service.runs)) == 1


# -- bounds ------------------------------------------------------------------------------------------------------------
async def test_it_is_run_so_often_and_then_said_that_the_database_fails(
    postgresql: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reruns, "MAX_RUNS", 4)
    with pytest.raises(DatabaseUnavailable, match=r"failed 4 times, last: .*given up") as caught:
        await run(postgresql, "execute", GIVE_UP)
    assert caught.value.is_transient
    assert accounts(postgresql).runs == [ID] * 4
    assert await logged(accounts(postgresql).database) == []


async def test_a_file_that_stays_busy_is_given_up(
    sqlite: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reruns, "MAX_RUNS", 3)
    with closing(sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked"):
            await run(sqlite, "bump", "a")
        other.execute("ROLLBACK")
    assert await run(sqlite, "bump", "a") == CommandResult("bumped in run 4")


async def test_the_time_is_bounded_too(postgresql: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reruns, "LONGEST_S", 0.0)
    with pytest.raises(DatabaseUnavailable, match="given up"):
        await run(postgresql, "execute", GIVE_UP)


async def test_the_pauses_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    longest: list[float] = []
    again = Reruns("Accounts.bump", jitter=lambda longest_s: longest.append(longest_s) or 0.0)  # type: ignore[func-returns-value]
    for _ in range(5):
        await again.pause_after(DatabaseUnavailable("away"))
    assert longest == [0.04, 0.05, 0.05, 0.05, 0.05]


async def test_a_command_that_waits_to_be_run_again_can_be_cancelled(
    postgresql: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reruns, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(reruns, "LONGEST_PAUSE_S", 1000.0)
    service = accounts(postgresql)
    running = asyncio.create_task(run(postgresql, "execute", GIVE_UP))
    await until(lambda: service.runs)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not len(postgresql.turns)


# -- what is not -------------------------------------------------------------------------------------------------------
async def test_nothing_is_run_again_after_the_commit(postgresql: LocalHost) -> None:
    service = accounts(postgresql)
    for _ in range(2):  # a retry ends the same
        with pytest.raises(Exception, match="given up"):
            await run(postgresql, "bump_and_execute", "a", GIVE_UP)
    assert service.runs == [ID]
    assert await counts(service.database) == {"a": 11, "b": 10}


async def test_a_violated_constraint_is_the_commands_own_error(host: LocalHost) -> None:
    with pytest.raises(IntegrityError):
        await run(host, "insert_twice", "c")
    assert accounts(host).runs == [ID]
    assert await counts(accounts(host).database) == {"a": 10, "b": 10}


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM no_such_table", "SELEKT 1", "SELECT no_such_column FROM counters"]
)
async def test_a_wrong_statement_is_the_commands_own_error(host: LocalHost, statement: str) -> None:
    with pytest.raises(DBAPIError):
        await run(host, "execute", statement)
    assert accounts(host).runs == [ID]


async def test_an_argument_of_the_wrong_type_is_the_commands_own_error(postgresql: LocalHost) -> None:
    """Its driver has one class of errors for that and for lost connections."""
    with pytest.raises(DBAPIError, match="invalid input for query argument"):
        await run(postgresql, "set_all", "five")
    assert accounts(postgresql).runs == [ID]


async def test_what_others_than_the_database_raise_is_the_commands_own_error(host: LocalHost) -> None:
    with pytest.raises(ConnectionResetError, match="by the bank"):
        await run(host, "call_out", "a")
    assert accounts(host).runs == [ID]
    assert await counts(accounts(host).database) == {"a": 10, "b": 10}
