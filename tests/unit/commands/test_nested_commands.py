"""B.9: commands that others call share their transaction and are one operation of the log; or why not is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fusion_cluster import App, ComputeService, Database, UsageError, command
from fusion_cluster.commands import CommandResult
from fusion_cluster.database.operation_log import decode_keys
from fusion_cluster.errors import CommandResultLost
from fusion_cluster.host import LocalHost
from tests.apps.counters import Base, CounterRow, Counters, NoRoom, counts
from tests.apps.shelves import Gate
from tests.log_entries import logged

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

ID = "made by the client"


class Batches(ComputeService):
    """Commands that call others."""

    database: Database
    counters: Counters
    archive: Database

    def __init__(self) -> None:
        self.gate: Gate | None = None
        self.runs = 0

    async def _end(self) -> None:
        if self.gate is not None:
            await self.gate.pass_through()

    @command
    async def bump_all(self, names: list[str]) -> list[int]:
        async with self.database.operation():
            return [await self.counters.bump(name) for name in names]

    @command
    async def bump_quietly(self, name: str) -> str:
        """Another's result is not its own."""
        async with self.database.operation():
            await self.counters.bump_and_record(name)
        await self._end()
        return f"quietly {name}"

    @command
    async def pass_on(self, name: str) -> str:
        """The operation is the other's."""
        await self.counters.bump_and_record(name)
        await self._end()
        return f"passed on {name}"

    @command
    async def bump_apart(self, names: list[str]) -> None:
        self.runs += 1
        for name in names:
            await self.counters.bump(name)

    @command
    async def bump_at_once(self, names: list[str]) -> None:
        self.runs += 1
        await asyncio.gather(*(self.counters.bump(name) for name in names))

    @command
    async def reserve_what_is_free(self, names: list[str]) -> list[str]:
        free = []
        async with self.database.operation():
            for name in names:
                try:
                    free.append(await self.counters.reserve(name))
                except NoRoom:
                    await self.counters.add("refused")
        return free

    @command
    async def try_twice(self, name: str) -> str:
        """Its first operation comes to nothing."""
        try:
            async with self.database.operation() as operation:
                operation.session.add(CounterRow(name=name, count=1))
                operation.result("the first")
                raise NoRoom("no")
        except NoRoom:
            pass
        async with self.database.operation() as operation:
            operation.session.add(CounterRow(name=name, count=2))
        await self._end()
        return "the second"

    @command
    async def tell_within(self, name: str) -> str:
        """The result is told in a savepoint of its own; another one that tells is rolled back."""
        async with self.database.operation():
            async with self.database.operation() as operation:
                operation.session.add(CounterRow(name=name, count=1))
                operation.result("told within")
            try:
                async with self.database.operation() as operation:
                    operation.result("rolled back")
                    raise NoRoom("no")
            except NoRoom:
                pass
        await self._end()
        return "told within"

    @command
    async def file_away(self, name: str) -> str:
        """Its operation is on another database than the app's."""
        self.runs += 1
        async with self.archive.operation() as operation:
            operation.session.add(CounterRow(name=name, count=1))
        await self._end()
        return f"filed {name}"


@pytest.fixture
async def host(database_url: str, tmp_path: Path) -> AsyncIterator[LocalHost]:
    database, archive = Database(database_url), Database(f"sqlite:///{tmp_path}/archive.db")
    await database.create_tables(Base.metadata)
    await archive.create_tables(Base.metadata)
    async with App("batches", [Counters, Batches], database=database).local() as host:
        host.service(Batches).archive = archive
        yield host
    await archive.dispose()


@pytest.fixture
def batches(host: LocalHost) -> Batches:
    return host.service(Batches)


@pytest.fixture
def database(batches: Batches) -> Database:
    return batches.database


async def run(host: LocalHost, method: str, argument: object, command_id: str = ID) -> CommandResult:
    return await host.carry_out(host.command(f"Batches.{method}").invocation((argument,), command_id))


async def cancelled_after_the_commit(host: LocalHost, method: str) -> None:
    batches = host.service(Batches)
    gate = batches.gate = Gate()
    running = asyncio.create_task(run(host, method, "a"))
    await gate.reached.wait()
    running.cancel()
    await asyncio.wait([running])
    batches.gate = None


# -- together ----------------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_nested_commands_are_one_operation_of_the_log(host: LocalHost, database: Database) -> None:
    counters = host.service(Counters)
    shown = [counters.count(name) for name in "abc"]
    for node in shown:
        await node
    assert await run(host, "bump_all", ["a", "b", "a"]) == CommandResult([1, 1, 2])
    assert await logged(database) == [ID]
    assert await logged(database, "command") == ["Batches.bump_all"]
    (keys,) = await logged(database, "keys")
    assert isinstance(keys, bytes)
    assert len(decode_keys(keys)) == 2
    assert [node.is_consistent for node in shown] == [False, False, True]
    assert await run(host, "bump_all", ["a", "b", "a"]) == CommandResult([1, 1, 2], is_replayed=True)
    assert await counts(database) == {"a": 2, "b": 1}


async def test_a_failure_takes_them_all_back(host: LocalHost, batches: Batches, database: Database) -> None:
    host.service(Counters).gates["written"] = gate = Gate()
    running = asyncio.create_task(run(host, "bump_all", ["a", "b"]))
    await gate.reached.wait()
    running.cancel()
    await asyncio.wait([running])
    assert await counts(database) == {}
    assert await logged(database) == []


@pytest.mark.both_databases
async def test_a_nested_command_that_fails_takes_only_its_own_back_if_its_caller_goes_on(
    host: LocalHost, database: Database
) -> None:
    await run(host, "bump_all", ["b"], "another")
    shown = host.service(Counters).count("b")
    await shown
    assert (await run(host, "reserve_what_is_free", ["a", "b", "c"])).value == ["reserved a", "reserved c"]
    assert await counts(database) == {"a": 1, "b": 1, "c": 1, "refused": 1}
    assert shown.is_consistent
    assert await logged(database) == ["another", ID]


# -- results -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["bump_quietly", "pass_on"])
async def test_the_result_of_a_nested_command_is_not_taken_for_the_outer_ones(
    host: LocalHost, database: Database, method: str
) -> None:
    await cancelled_after_the_commit(host, method)
    assert await logged(database) == [ID]
    with pytest.raises(CommandResultLost):
        await run(host, method, "a")
    assert await counts(database) == {"a": 1}
    first = await run(host, method, "a", "another")
    assert await run(host, method, "a", "another") == CommandResult(first.value, is_replayed=True)


async def test_what_an_operation_was_told_goes_with_it_when_it_is_rolled_back(
    host: LocalHost, database: Database
) -> None:
    await cancelled_after_the_commit(host, "try_twice")
    assert await counts(database) == {"a": 2}
    with pytest.raises(CommandResultLost):
        await run(host, "try_twice", "a")


async def test_what_a_savepoint_of_the_commands_own_was_told_is_recorded(host: LocalHost, database: Database) -> None:
    await cancelled_after_the_commit(host, "tell_within")
    assert await run(host, "tell_within", "a") == CommandResult("told within", is_replayed=True)
    assert await counts(database) == {"a": 1}


# -- what is not possible ----------------------------------------------------------------------------------------------
async def test_a_second_operation_is_refused_and_what_to_do_is_told(
    host: LocalHost, batches: Batches, database: Database
) -> None:
    shown = host.service(Counters).count("a")
    await shown
    for _ in range(2):  # a retry is told the same, and changes nothing
        with pytest.raises(UsageError, match="open one operation around both"):
            await run(host, "bump_apart", ["a", "b"])
        assert await counts(database) == {"a": 1}
    assert not shown.is_consistent, "what was committed is published"
    assert batches.runs == 1


async def test_two_operations_at_once_are_refused_too(host: LocalHost, batches: Batches, database: Database) -> None:
    with pytest.raises(UsageError, match="open one operation around both"):
        await run(host, "bump_at_once", ["a", "b"])
    assert batches.runs == 1
    assert len(await counts(database)) <= 1
    assert await run(host, "bump_all", ["c"], "another") == CommandResult([1])


# -- another database --------------------------------------------------------------------------------------------------
async def test_an_operation_on_another_database_is_remembered_in_both(
    host: LocalHost, batches: Batches, database: Database
) -> None:
    assert await run(host, "file_away", "a") == CommandResult("filed a")
    assert await run(host, "file_away", "a") == CommandResult("filed a", is_replayed=True)
    assert (await logged(database), await logged(batches.archive)) == ([ID], [ID])
    assert batches.runs == 1


async def test_an_operation_on_another_database_is_found_there_if_the_process_ends_after_it(
    host: LocalHost, batches: Batches, database: Database
) -> None:
    await cancelled_after_the_commit(host, "file_away")
    assert (await logged(database), await logged(batches.archive)) == ([], [ID])
    with pytest.raises(CommandResultLost):
        await run(host, "file_away", "a")
    assert await counts(batches.archive) == {"a": 1}
