from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import command, running_operation
from fusion_cluster.commands.scope import OperationScope
from fusion_cluster.database import Database
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import compute_method
from fusion_cluster.graph.why.cause import UNKNOWN
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Base, Gate, ShelfRow, Shelves, Stock, shelves_host
from tests.waiting import until

pytest_plugins = ["tests.databases"]


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[LocalHost]:
    async with shelves_host(database_url) as host:
        yield host


@pytest.fixture
def shelves(host: LocalHost) -> Shelves:
    return host.service(Shelves)


@pytest.fixture
def database(shelves: Shelves) -> Database:
    return shelves.database


async def rows(database: Database) -> dict[int, int]:
    async with database.session() as session:
        return {row.id: row.amount for row in (await session.scalars(select(ShelfRow))).all()}


# -- outside a command -------------------------------------------------------------------------------------------------
async def test_a_script_may_change_data_in_an_operation(shelves: Shelves, database: Database) -> None:
    before = shelves.amount(1)
    await before
    async with database.operation() as operation:
        operation.session.add(ShelfRow(id=1, amount=5))
        shelves.amount.invalidate(1)
        assert [str(key) for key in operation.invalidations] == ["Shelves.amount(1)"]
        assert before.is_consistent
    assert not before.is_consistent
    assert await shelves.amount(1) == 5


async def test_leaving_a_scripts_operation_waits_for_its_publication(
    host: LocalHost, shelves: Shelves, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    barriers: list[bool] = []

    def publish(keys: object, barrier: bool, operation_id: str) -> Awaitable[None]:
        barriers.append(barrier)
        return confirmation

    monkeypatch.setattr(host, "publish", publish)

    async def script() -> None:
        async with database.operation():
            shelves.amount.invalidate(1)

    run = asyncio.create_task(script())
    await until(lambda: barriers)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not run.done()
    confirmation.set_result(None)
    await run
    assert barriers == [True]


async def test_an_exception_rolls_back_and_drops_the_invalidations(shelves: Shelves, database: Database) -> None:
    before = shelves.amount(1)
    await before

    async def script() -> None:
        async with database.operation() as operation:
            operation.session.add(ShelfRow(id=1, amount=5))
            shelves.amount.invalidate(1)
            await operation.session.flush()
            raise LookupError("no")

    with pytest.raises(LookupError):
        await script()
    assert before.is_consistent
    assert await rows(database) == {}
    assert running_operation() is None


@pytest.mark.parametrize("early", [True, False])
async def test_a_row_that_the_database_refuses_rolls_back(shelves: Shelves, database: Database, early: bool) -> None:
    await shelves.put(1, 5)
    before = shelves.amount(1)
    await before

    async def script() -> None:
        async with database.operation() as operation:
            operation.session.add(ShelfRow(id=1, amount=6))
            shelves.amount.invalidate(1)
            if early:
                await operation.session.flush()

    with pytest.raises(IntegrityError):
        await script()
    assert before.is_consistent
    assert await rows(database) == {1: 5}
    await shelves.put(1, 7)
    assert await shelves.amount(1) == 7


class Strict(DeclarativeBase):
    pass


class OwnerRow(Strict):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int] = mapped_column(ForeignKey("boxes.id", deferrable=True, initially="DEFERRED"))


class BoxRow(Strict):
    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)


async def test_a_commit_that_the_database_refuses_invalidates_nothing(shelves: Shelves, database: Database) -> None:
    await database.create_tables(Strict.metadata)
    before = shelves.amount(1)
    await before

    async def script() -> None:
        async with database.operation() as operation:
            operation.session.add_all([ShelfRow(id=1, amount=5), OwnerRow(id=1, shelf=7)])
            shelves.amount.invalidate(1)
            await operation.session.flush()

    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        await script()
    assert before.is_consistent
    assert await rows(database) == {}
    await shelves.put(1, 6)
    assert await rows(database) == {1: 6}


async def test_a_commit_in_doubt_that_was_made_is_reported_as_made(
    shelves: Shelves, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shelves.amount(1)
    await before
    dialect = database.engines().writing.sync_engine.dialect
    commit = dialect.do_commit

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        raise ConnectionResetError("gone")

    monkeypatch.setattr(dialect, "do_commit", commit_and_lose)
    assert await shelves.put(1, 5) == "1 holds 5"
    monkeypatch.undo()
    assert shelves.log == ["amount(1)"]
    assert not before.is_consistent
    assert await shelves.amount(1) == 5
    await shelves.put(1, 6)
    assert await shelves.amount(1) == 6


async def test_an_operation_without_rows_publishes_what_it_recorded(shelves: Shelves, database: Database) -> None:
    before = shelves.amount(1)
    await before
    async with database.operation():
        shelves.amount.invalidate(1)
        shelves.amount.invalidate(1)
    assert not before.is_consistent


async def test_rows_can_be_used_after_the_commit(database: Database) -> None:
    async with database.operation() as operation:
        row = ShelfRow(id=1, amount=5)
        operation.session.add(row)
    assert (row.id, row.amount) == (1, 5)


# -- who is part of it -------------------------------------------------------------------------------------------------
async def test_a_task_started_in_an_operation_records_with_it_while_it_is_open(
    shelves: Shelves, database: Database
) -> None:
    may_go = asyncio.Event()

    async def late() -> None:
        await may_go.wait()
        shelves.amount.invalidate(2)

    one, two = shelves.amount(1), shelves.amount(2)
    await one
    await two
    stragglers: list[asyncio.Task[None]] = []

    async def script() -> None:
        async with database.operation():
            stragglers.append(asyncio.create_task(late()))
            await asyncio.create_task(_invalidate(shelves, 1))
            raise LookupError("no")

    with pytest.raises(LookupError):
        await script()
    assert one.is_consistent
    may_go.set()
    await stragglers[0]
    assert not two.is_consistent


async def _invalidate(shelves: Shelves, number: int) -> None:
    shelves.amount.invalidate(number)


async def test_another_task_is_no_part_of_the_operation(shelves: Shelves, database: Database) -> None:
    may_go, gone = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        await may_go.wait()
        shelves.amount.invalidate(1)
        gone.set()

    task = asyncio.create_task(other())
    before = shelves.amount(1)
    await before
    async with database.operation():
        may_go.set()
        await gone.wait()
        assert not before.is_consistent
    await task


async def test_a_computation_that_an_operation_reads_is_no_part_of_it(database_url: str) -> None:
    class Careless(ComputeService):
        shelves: Shelves
        database: Database

        @compute_method
        async def read(self, number: int) -> int:
            assert running_operation() is None
            await self.shelves.amount.invalidate(number)
            return number

        @compute_method
        async def write(self, number: int) -> int:
            async with self.database.operation():
                return number

        @command
        async def run(self, number: int) -> int:
            async with self.database.operation():
                return await self.read(number)

    Careless.__annotations__.update(shelves=Shelves, database=Database)
    async with (
        shelves_host(database_url) as other,
        App("careless", [Shelves, Careless], database=other.app.database).local() as host,
    ):
        before = host.service(Shelves).amount(1)
        await before
        assert await host.service(Careless).run(1) == 1
        assert not before.is_consistent
        with pytest.raises(UsageError, match="cannot change data"):
            await host.service(Careless).write(1)


async def test_calling_a_command_in_a_scripts_operation_is_a_usage_error(shelves: Shelves, database: Database) -> None:
    async with database.operation():
        with pytest.raises(UsageError, match="call it outside"):
            await shelves.put(1, 5)


async def test_the_operation_ends_only_by_its_block(database: Database) -> None:
    async with database.operation() as operation:
        with pytest.raises(UsageError, match="block ends"):
            await operation.session.commit()
        with pytest.raises(UsageError, match="exception"):
            await operation.session.rollback()


async def test_its_session_is_not_used_after_its_block(database: Database) -> None:
    async with database.operation() as operation:
        await operation.session.get(ShelfRow, 1)
    with pytest.raises(UsageError, match="has ended"):
        await operation.session.get(ShelfRow, 1)
    async with database.operation() as another:
        assert await another.session.get(ShelfRow, 1) is None


async def test_a_recorded_invalidation_after_the_end_is_a_usage_error(shelves: Shelves, host: LocalHost) -> None:
    async with shelves.database.operation() as operation:
        pass
    with pytest.raises(UsageError, match="committed"):
        operation.invalidate(shelves.amount(1).key, UNKNOWN, host)


# -- one in another ----------------------------------------------------------------------------------------------------
async def test_commands_called_in_an_operation_share_its_transaction(
    host: LocalHost, shelves: Shelves, database: Database
) -> None:
    await shelves.put(1, 5)
    total = shelves.total(1, 2)
    await total
    gate = shelves.gates["2: written"] = Gate()
    run = asyncio.create_task(host.service(Stock).move(1, 2, 3))
    await gate.reached.wait()
    assert await rows(database) == {1: 5}
    assert total.is_consistent
    gate.opened.set()
    await run
    assert await rows(database) == {1: 2, 2: 3}
    assert await shelves.total(1, 2) == 5
    assert not total.is_consistent


async def test_a_failure_in_the_inner_command_rolls_the_outer_one_back(
    host: LocalHost, shelves: Shelves, database: Database
) -> None:
    await shelves.put(1, 5)
    total = shelves.total(1, 2)
    await total

    async def at(place: str) -> None:
        if place == "2: written":
            raise LookupError("no")

    shelves.at = at  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        await host.service(Stock).move(1, 2, 3)
    assert await rows(database) == {1: 5}
    assert total.is_consistent


async def test_an_inner_operation_that_fails_takes_only_its_own_back(shelves: Shelves, database: Database) -> None:
    one, two = shelves.amount(1), shelves.amount(2)
    await one
    await two
    async with database.operation() as outer:
        outer.session.add(ShelfRow(id=1, amount=5))
        shelves.amount.invalidate(1)

        async def fail() -> None:
            async with database.operation() as inner:
                assert inner.id == outer.id
                assert inner.session is outer.session
                inner.session.add(ShelfRow(id=2, amount=5))
                shelves.amount.invalidate(2)
                await inner.session.flush()
                raise LookupError("no")

        with pytest.raises(LookupError):
            await fail()
        async with database.operation() as inner:
            inner.session.add(ShelfRow(id=3, amount=5))
    assert await rows(database) == {1: 5, 3: 5}
    assert not one.is_consistent
    assert two.is_consistent


async def test_an_inner_operation_in_another_task_is_a_usage_error(shelves: Shelves, database: Database) -> None:
    async def inner() -> None:
        async with database.operation():
            pass

    async with database.operation():
        with pytest.raises(UsageError, match="task"):
            await asyncio.create_task(inner())


async def test_operations_on_different_databases_are_independent(
    shelves: Shelves, database: Database, tmp_path: Path
) -> None:
    other = Database(f"sqlite:///{tmp_path}/other.db")
    await other.create_tables(Base.metadata)
    one, two = shelves.amount(1), shelves.amount(2)
    await one
    await two

    async def script() -> None:
        async with database.operation() as outer:
            async with other.operation() as inner:
                inner.session.add(ShelfRow(id=2, amount=1))
                shelves.amount.invalidate(2)
                async with database.operation() as again:
                    assert again.session is outer.session
                    shelves.amount.invalidate(1)
            assert not two.is_consistent
            raise LookupError("no")

    with pytest.raises(LookupError):
        await script()
    assert one.is_consistent
    assert await rows(other) == {2: 1}
    await other.dispose()


async def test_many_operations_of_one_process_queue(shelves: Shelves, database: Database) -> None:
    await asyncio.gather(*(shelves.put(number, number) for number in range(50)))
    assert len(await rows(database)) == 50


async def test_scopes_are_made_by_the_database(tmp_path: Path) -> None:
    assert isinstance(Database(f"sqlite:///{tmp_path}/x.db").operation(), OperationScope)
