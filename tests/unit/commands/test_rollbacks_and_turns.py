"""B.2: what is rolled back leaves nothing anywhere. B.11: commands of one key do not interleave, those of others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from fusion_cluster import App, ComputeService, Database, command, event_handler
from fusion_cluster.errors import DatabaseUnavailable, UsageError
from fusion_cluster.host import LocalHost
from tests.apps.counters import Base, CounterRow, Counters
from tests.apps.shelves import Gate
from tests.log_entries import logged
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

ID = "made by the client"


@dataclass
class Counted:
    name: str


class Tellers(ComputeService):
    """Commands that do all that an operation can do, and then fail, in one way or another."""

    database: Database
    counters: Counters

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}
        self.running = 0
        self.most_running = 0

    @command
    async def fail(self, name: str, how: str) -> int:
        async with self.database.operation() as operation:
            operation.session.add(CounterRow(name=name, count=1))
            self.counters.count.invalidate(name)
            operation.emit(Counted(name))
            operation.result(1)
            async with self.database.operation() as inner:
                inner.session.add(CounterRow(name=f"inner {name}", count=1))
                inner.emit(Counted(f"inner {name}"))
            if how == "raises":
                raise LookupError("no")
            if how == "waits":
                await self.gates[name].pass_through()
            if how == "violates":
                operation.session.add(CounterRow(name=name, count=2))
                await operation.session.flush()
            if how == "violates at the end":
                operation.session.expunge_all()
                operation.session.add(CounterRow(name=name, count=2))
            if how == "returns what cannot be sent":
                operation.result(object())
        return 1

    @command
    async def count_up(self, name: str) -> int:
        """Reads and writes, as if it were alone: what is in between must be nobody's of the same key."""
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            if name in self.gates:
                await self.gates[name].pass_through()
            async with self.database.session() as session:
                row = await session.get(CounterRow, name)
            count = row.count + 1 if row else 1
            async with self.database.operation() as operation:
                await operation.session.merge(CounterRow(name=name, count=count))
                self.counters.count.invalidate(name)
            return count
        finally:
            self.running -= 1

    @event_handler
    async def on_counted(self, event: Counted) -> None:
        raise AssertionError("nothing was counted")


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[LocalHost]:
    database = Database(database_url)
    await database.create_tables(Base.metadata)
    async with App("tellers", [Counters, Tellers], database=database).local() as host:
        yield host
        host.graph.validate()


@pytest.fixture
def tellers(host: LocalHost) -> Tellers:
    return host.service(Tellers)


async def rows_everywhere(database: Database) -> list[tuple[str, int]]:
    """The tables that have rows, the app's and the library's."""
    found = []
    async with database.session() as session:
        for table in ("counters", "fusion_operations", "fusion_commands", "fusion_events", "fusion_key_values"):
            count = await session.scalar(text(f"SELECT count(*) FROM {table}"))
            if count:
                found.append((table, count))
    return found


# -- B.2 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
@pytest.mark.parametrize("how", ["raises", "violates", "violates at the end", "returns what cannot be sent"])
@pytest.mark.parametrize("command_id", [ID, None])
async def test_a_rolled_back_command_leaves_no_row_in_any_table(
    host: LocalHost, tellers: Tellers, how: str, command_id: str | None
) -> None:
    shown = [tellers.counters.count(name) for name in ("a", "inner a")]
    for node in shown:
        await node
    with pytest.raises((LookupError, IntegrityError, UsageError)):
        await host.carry_out(host.command("Tellers.fail").invocation(("a", how), command_id))
    assert await rows_everywhere(tellers.database) == []
    assert all(node.is_consistent for node in shown)


@pytest.mark.both_databases
async def test_a_cancelled_command_leaves_no_row_in_any_table(host: LocalHost, tellers: Tellers) -> None:
    gate = tellers.gates["a"] = Gate()
    running = asyncio.create_task(tellers.fail("a", "waits"))
    await gate.reached.wait()
    running.cancel()
    await asyncio.wait([running])
    assert await rows_everywhere(tellers.database) == []


@pytest.mark.both_databases
async def test_a_commit_that_fails_leaves_no_row_in_any_table(
    host: LocalHost, tellers: Tellers, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tellers.gates["a"] = Gate()
    gate.opened.set()

    async def fail(operation: object) -> None:
        raise DatabaseUnavailable("the log is full")

    monkeypatch.setattr(tellers.database.log, "write", fail)
    monkeypatch.setattr("fusion_cluster.commands.reruns.MAX_RUNS", 2)
    with pytest.raises(DatabaseUnavailable, match="the log is full"):
        await tellers.fail("a", "waits")
    assert await rows_everywhere(tellers.database) == []


# -- B.11 --------------------------------------------------------------------------------------------------------------
async def test_commands_of_one_key_take_turns_in_the_order_in_which_they_came(tellers: Tellers) -> None:
    results = await asyncio.gather(*(tellers.count_up("a") for _ in range(20)))
    assert results == list(range(1, 21))
    assert tellers.most_running == 1
    assert len(await logged(tellers.database)) == 20


async def test_commands_of_different_keys_run_at_the_same_time(host: LocalHost, tellers: Tellers) -> None:
    names = [f"{number}" for number in range(5)]
    tellers.gates = {name: Gate() for name in names}
    running = [asyncio.create_task(tellers.count_up(name)) for name in names]
    await until(lambda: tellers.running == 5)
    for name in reversed(names):
        tellers.gates[name].opened.set()
    assert await asyncio.gather(*running) == [1] * 5
    assert not len(host.turns)


async def test_a_retry_takes_its_turn_too(host: LocalHost, tellers: Tellers) -> None:
    count_up = host.command("Tellers.count_up")
    uses = [host.carry_out(count_up.invocation(("a",), f"{number % 5}")) for number in range(20)]
    results = await asyncio.gather(*uses)
    assert [result.value for result in results] == [1, 2, 3, 4, 5] * 4
    assert [result.is_replayed for result in results] == [False] * 5 + [True] * 15
