"""A command's result survives its process: `return`, in the block of its operation or right behind it, is recorded with
the commit, and of any other the author is warned."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy.exc import IntegrityError

from fusion_cluster import App, ComputeService, Database, UnrecordedResult, UsageError, command
from fusion_cluster.commands.outcomes import outcome_of
from fusion_cluster.database.operation_log import OperationLog
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Base, ShelfRow
from tests.log_entries import logged

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


def doubled(number: int) -> int:
    return 2 * number


class Natural(ComputeService):
    """Each puts a shelf up and gives 7, or what is made of it."""

    database: Database

    def _shelf(self, number: int) -> ShelfRow:
        return ShelfRow(id=number, amount=7)

    # -- recorded with the commit ----------------------------------------------------------------------------------
    @command
    async def in_the_block(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
            return row.amount

    @command
    async def a_call_in_the_block(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
            return doubled(row.amount) - row.amount

    @command
    async def behind_the_block(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
        return row.amount

    @command
    async def by_a_name(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
        amount = row.amount
        return amount  # noqa: RET504

    @command
    async def in_a_branch(self, number: int) -> int | None:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
            if row.amount == 7:
                return row.amount
        return None

    @command
    async def by_the_database(self, number: int) -> dict[str, object]:
        async with self.database.operation() as operation:
            operation.session.add(row := ShelfRow(amount=7))
        return {"id": row.id, "text": f"{row.amount}", "all": [row.amount, row.amount + 1] if row.amount else None}

    @command
    async def told(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
            operation.result(row.amount)
        return int(row.amount)

    # -- not recorded ------------------------------------------------------------------------------------------------
    @command
    async def a_call_behind_the_block(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
        return int(row.amount)

    @command
    async def more_behind_the_block(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
        amount = await self._amount(number)
        return amount + row.amount - row.amount

    @command
    async def a_list_that_grows(self, number: int) -> int:
        lists = [[number]]
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
        mine = lists[0]
        mine += [row.amount]
        return mine[-1]

    @command
    async def in_a_method(self, number: int) -> int:
        return await self._put(number)

    @command
    async def by_another_command(self, number: int) -> int:
        return await self.in_the_block(number)

    @command
    async def with_an_error_caught(self, number: int) -> int:
        try:
            async with self.database.operation() as operation:
                operation.session.add(row := self._shelf(number))
                return row.amount
        except IntegrityError:
            return -1

    # -- what comes between --------------------------------------------------------------------------------------------
    @command
    async def an_expression_that_fails(self, number: int) -> object:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
        return row.nonsense  # type: ignore[attr-defined]

    @command
    async def nothing(self, number: int) -> None:
        async with self.database.operation() as operation:
            operation.session.add(self._shelf(number))

    async def _put(self, number: int) -> int:
        async with self.database.operation() as operation:
            operation.session.add(row := self._shelf(number))
            return row.amount

    async def _amount(self, number: int) -> int:
        async with self.database.session() as session:
            return (await session.get_one(ShelfRow, number)).amount


RECORDED = ["in_the_block", "a_call_in_the_block", "behind_the_block", "by_a_name", "in_a_branch", "told"]
NOT_RECORDED = [
    *("a_call_behind_the_block", "more_behind_the_block", "a_list_that_grows", "in_a_method", "by_another_command"),
    "with_an_error_caught",
]


@pytest.fixture
async def host(database: Database) -> AsyncIterator[LocalHost]:
    await database.create_tables(Base.metadata)
    async with App("natural", services=[Natural], database=database).local() as host:
        yield host


async def _run(host: LocalHost, method: str, number: int = 1, command_id: str = "id") -> object:
    return (await host.carry_out(getattr(host.service(Natural), method).invocation((number,), command_id))).value


@pytest.fixture
def dies_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Nothing is recorded any more when the commit is made."""

    def arm() -> None:
        async def lost(self: OperationLog, *arguments: object) -> None:
            raise ConnectionError("the process is gone")

        monkeypatch.setattr(OperationLog, "record_outcome", lost)

    return arm


@pytest.mark.parametrize("method", RECORDED)
async def test_a_natural_result_is_recorded_with_the_commit(
    host: LocalHost, database: Database, dies_after_the_commit: Callable[[], None], method: str
) -> None:
    dies_after_the_commit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await _run(host, method) == 7
    assert await logged(database, "outcome") == [outcome_of(7)]
    assert await _run(host, method) == 7, "a retry gets it"


@pytest.mark.both_databases
async def test_what_the_database_has_given_is_recorded_too(
    host: LocalHost, database: Database, dies_after_the_commit: Callable[[], None]
) -> None:
    dies_after_the_commit()
    first = await _run(host, "by_the_database")
    assert first == {"id": 1, "text": "7", "all": [7, 8]}
    assert await _run(host, "by_the_database") == first


@pytest.mark.parametrize("method", NOT_RECORDED)
async def test_of_a_result_that_can_be_lost_the_author_is_warned_with_the_line_to_write(
    host: LocalHost, database: Database, method: str
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert await _run(host, method) == 7
    assert [warning.category for warning in caught] == [UnrecordedResult]
    lines, first = inspect.getsourcelines(getattr(Natural, method).body)
    assert caught[0].filename == __file__
    assert first <= caught[0].lineno < first + len(lines)
    for said in (f"Natural.{method} ", "CommandResultLost", "return operation.result(...)"):
        assert said in str(caught[0].message)


async def test_where_warnings_are_errors_nothing_is_committed(host: LocalHost, database: Database) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnrecordedResult)
        with pytest.raises(UnrecordedResult):
            await _run(host, "a_call_behind_the_block")
    assert await logged(database) == []
    assert await _run(host, "behind_the_block") == 7


async def test_an_error_behind_the_block_comes_after_the_commit(host: LocalHost, database: Database) -> None:
    with pytest.raises(AttributeError):
        await _run(host, "an_expression_that_fails")
    assert await logged(database) == ["id"]
    with pytest.raises(AttributeError):
        await _run(host, "an_expression_that_fails")
    assert await logged(database, "id", "shelves") == [1]


@pytest.mark.both_databases
@pytest.mark.parametrize("method", ["in_the_block", "behind_the_block", "nothing"])
async def test_a_commit_that_fails_fails_the_command(host: LocalHost, database: Database, method: str) -> None:
    await _run(host, "nothing", 1, "first")
    with pytest.raises(IntegrityError):
        await _run(host, method, 1, "second")
    assert await logged(database) == ["first"]
    assert await _run(host, method, 2, "second") == (None if method == "nothing" else 7), "nothing is left open"


async def test_what_stands_in_a_try_gets_the_error_of_its_commit(host: LocalHost) -> None:
    await _run(host, "nothing", 1, "first")
    assert await _run(host, "with_an_error_caught", 1, "second") == -1


async def test_a_script_has_no_result(database: Database) -> None:
    with pytest.raises(UsageError, match="only a command"):
        async with database.operation() as operation:
            operation.result(1)
