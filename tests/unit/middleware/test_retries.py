"""Retries: bounded, with growing pauses, and never what would be wrong or useless to try again."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from fusion_cluster import (
    App,
    CommandOutcomeUnknown,
    ComputeService,
    Database,
    ShardUnavailable,
    Transiency,
    UsageError,
    WorkerLost,
    command,
    compute_method,
)
from fusion_cluster.commands import running_command
from fusion_cluster.middleware import Retries
from tests.apps.shelves import Base, ShelfRow, Shelves, Stock
from tests.unit.middleware.bakery import Bakery, Recorder, baking, shelving


class Pauses:
    """Makes no pauses, but notes them."""

    def __init__(self, part: float = 1.0) -> None:
        self.made_s: list[float] = []
        self.part = part

    def retries(self, max_attempts: int = 3, **options: Any) -> Retries:
        return Retries(max_attempts, random=lambda: self.part, sleep=self.sleep, **options)

    async def sleep(self, pause_s: float) -> None:
        self.made_s.append(pause_s)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


async def test_a_computation_that_fails_for_the_moment_is_tried_again(pauses: Pauses) -> None:
    async with baking(pauses.retries()) as bakery:
        bakery.errors = [ConnectionError(), TimeoutError()]
        assert await bakery.flaky() == "well"
        assert bakery.log == ["flaky"] * 3
        assert bakery.flaky().error is None


async def test_the_last_error_is_the_result_when_there_were_too_many(pauses: Pauses) -> None:
    async with baking(pauses.retries(3)) as bakery:
        bakery.errors = [ConnectionError(str(number)) for number in range(5)]
        with pytest.raises(ConnectionError, match="2") as caught:
            await bakery.flaky()
        assert repr(bakery.flaky().error) == repr(caught.value)
        assert caught.value.__context__ is None
        assert bakery.log == ["flaky"] * 3


async def test_one_attempt_is_none_again(pauses: Pauses) -> None:
    async with baking(pauses.retries(1)) as bakery:
        bakery.errors = [ConnectionError()]
        with pytest.raises(ConnectionError):
            await bakery.flaky()
        assert pauses.made_s == []


async def test_pauses_double_up_to_the_longest(pauses: Pauses) -> None:
    async with baking(pauses.retries(7, first_pause_s=0.1, longest_pause_s=1.0)) as bakery:
        bakery.errors = [ConnectionError() for _ in range(6)]
        assert await bakery.flaky() == "well"
    assert pauses.made_s == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


async def test_pauses_are_a_random_part_of_that() -> None:
    pauses = Pauses(0.25)
    async with baking(pauses.retries(3, first_pause_s=0.1)) as bakery:
        bakery.errors = [ConnectionError(), ConnectionError()]
        await bakery.flaky()
    assert pauses.made_s == [0.025, 0.05]


async def test_any_number_of_attempts_has_finite_pauses(pauses: Pauses) -> None:
    async with baking(pauses.retries(2000)) as bakery:
        bakery.errors = [ConnectionError() for _ in range(1999)]
        assert await bakery.flaky() == "well"
    assert max(pauses.made_s) == 5.0


async def test_an_error_that_says_when_is_given_that_time(pauses: Pauses) -> None:
    async with baking(pauses.retries(first_pause_s=0.1)) as bakery:
        bakery.errors = [WorkerLost("gone", retry_after_s=3.0), WorkerLost("gone", retry_after_s=0.0)]
        assert await bakery.flaky() == "well"
        assert pauses.made_s == [3.0, 0.2]


async def test_an_error_that_says_much_later_is_not_tried_again(pauses: Pauses) -> None:
    async with baking(pauses.retries(longest_pause_s=5)) as bakery:
        bakery.errors = [WorkerLost("gone", retry_after_s=5.1)]
        with pytest.raises(WorkerLost):
            await bakery.flaky()
        assert pauses.made_s == []


async def test_an_error_that_says_nonsense_is_like_one_that_says_nothing(pauses: Pauses) -> None:
    class Vague(ConnectionError):
        retry_after_s = "soon"

    async with baking(pauses.retries()) as bakery:
        bakery.errors = [Vague()]
        assert await bakery.flaky() == "well"
        assert pauses.made_s == [0.1]


async def test_an_error_that_will_not_go_away_is_not_tried_again(pauses: Pauses) -> None:
    async with baking(pauses.retries()) as bakery:
        bakery.errors = [LookupError(), LookupError()]
        with pytest.raises(LookupError):
            await bakery.flaky()
        assert bakery.log == ["flaky"]


async def test_the_apps_classifier_decides_what_is_transient(pauses: Pauses) -> None:
    app = App("bakery", services=[Bakery], middleware=[pauses.retries()], is_transient=Transiency().add(LookupError))
    async with app.local() as host:
        bakery = host.service(Bakery)
        bakery.errors = [LookupError()]
        assert await bakery.flaky() == "well"


async def test_a_classifier_of_its_own_goes_before_the_apps(pauses: Pauses) -> None:
    async with baking(pauses.retries(is_transient=lambda error: isinstance(error, LookupError))) as bakery:
        bakery.errors = [LookupError()]
        assert await bakery.flaky() == "well"
        bakery.flaky.invalidate()
        bakery.errors = [ConnectionError()]
        with pytest.raises(ConnectionError):
            await bakery.flaky()


async def test_a_classifier_that_fails_means_transient(pauses: Pauses) -> None:
    async with baking(pauses.retries(is_transient=lambda error: 1 / 0)) as bakery:
        bakery.errors = [LookupError()]
        assert await bakery.flaky() == "well"


# -- what somebody else tries again ------------------------------------------------------------------------------------
async def test_the_error_of_a_dependency_is_tried_again_where_it_arose_alone(pauses: Pauses) -> None:
    async with baking(pauses.retries(3)) as bakery:
        bakery.errors = [ConnectionError() for _ in range(9)]
        with pytest.raises(ConnectionError):
            await bakery.above()
        assert bakery.log == ["above", "flaky", "flaky", "flaky"]


async def test_nor_is_an_error_that_was_raised_from_one(pauses: Pauses) -> None:
    class Wrapping(ComputeService):
        def __init__(self) -> None:
            self.attempts = 0

        @compute_method
        async def failing(self) -> int:
            raise ConnectionError("down")

        @compute_method
        async def wrapping(self) -> int:
            self.attempts += 1
            try:
                return await self.failing()
            except ConnectionError as error:
                raise TimeoutError("no answer") from error

    async with App("wrapping", services=[Wrapping], middleware=[pauses.retries(3)]).local() as host:
        wrapping = host.service(Wrapping)
        with pytest.raises(TimeoutError):
            await wrapping.wrapping()
        assert wrapping.attempts == 1
        assert len(pauses.made_s) == 2, "of the one beneath"


async def test_an_error_of_its_own_is_tried_again_whatever_its_dependencies_are(pauses: Pauses) -> None:
    class Later(ComputeService):
        def __init__(self) -> None:
            self.errors: list[Exception] = [ConnectionError()]

        @compute_method
        async def failing(self) -> int:
            raise ConnectionError("down")

        @compute_method
        async def forgiving(self) -> int:
            try:
                await self.failing()
            except ConnectionError:
                if self.errors:
                    raise self.errors.pop() from None
            return 1

    async with App("later", services=[Later], middleware=[pauses.retries(3)]).local() as host:
        assert await host.service(Later).forgiving() == 1


async def test_errors_of_the_cluster_are_the_routers(pauses: Pauses) -> None:
    async with baking(pauses.retries()) as bakery:
        bakery.errors = [ShardUnavailable("for long")]
        with pytest.raises(ShardUnavailable):
            await bakery.flaky()
        assert pauses.made_s == []


# -- cancellation ------------------------------------------------------------------------------------------------------
async def test_who_leaves_in_a_pause_ends_it() -> None:
    pausing = asyncio.Event()
    ended: list[str] = []

    async def sleep(pause_s: float) -> None:
        pausing.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("paused")

    async with baking(Retries(sleep=sleep)) as bakery:
        bakery.errors = [ConnectionError()]
        run = asyncio.ensure_future(bakery.flaky())
        await pausing.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert ended == ["paused"]
        assert await bakery.flaky() == "well"


async def test_a_cancellation_is_not_tried_again(pauses: Pauses) -> None:
    recorder = Recorder()
    async with baking(pauses.retries(commands=True), recorder) as bakery:
        run = asyncio.ensure_future(bakery.close())
        await bakery.entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (len(recorder.calls), pauses.made_s) == (1, [])


# -- commands ----------------------------------------------------------------------------------------------------------
async def test_commands_are_tried_again_only_if_asked_for(pauses: Pauses) -> None:
    async with baking(pauses.retries()) as bakery:
        bakery.errors = [ConnectionError()]
        with pytest.raises(ConnectionError):
            await bakery.order("roll")
    async with baking(pauses.retries(commands=True)) as bakery:
        bakery.errors = [ConnectionError()]
        assert await bakery.order("roll") == "one roll for nobody"
        assert bakery.log == ["order(roll)"] * 2


async def test_a_command_whose_transaction_was_rolled_back_is_tried_again(pauses: Pauses, tmp_path: Path) -> None:
    async with shelving(tmp_path, pauses.retries(commands=True)) as host:
        shelves = host.service(Shelves)
        fail_once(shelves, "1: written")
        assert await shelves.put(1, 5) == "1 holds 5"
        assert await shelves.amount(1) == 5


async def test_a_command_that_has_committed_is_not_tried_again(pauses: Pauses, tmp_path: Path) -> None:
    recorder = Recorder()
    async with shelving(tmp_path, pauses.retries(commands=True), recorder) as host:
        shelves = host.service(Shelves)
        fail_once(shelves, "1: committed")
        with pytest.raises(ConnectionError):
            await shelves.put(1, 5)
        assert recorder.names == ["Shelves.put(1, 5)"]
        assert await shelves.amount(1) == 5


async def test_a_nested_command_is_tried_again_with_the_whole(pauses: Pauses, tmp_path: Path) -> None:
    recorder = Recorder()
    async with shelving(tmp_path, pauses.retries(commands=True), recorder) as host:
        shelves = host.service(Shelves)
        await shelves.put(1, 10)
        recorder.calls.clear()
        fail_once(shelves, "2: written")
        await host.service(Stock).move(1, 2, 4)
        assert [await shelves.amount(1), await shelves.amount(2)] == [6, 4]
    names = [call.name for call in recorder.calls if call.kind == "command"]
    assert names == ["Stock.move", "Shelves.put", "Shelves.put"] * 2
    assert len(pauses.made_s) == 1


async def test_what_an_attempt_that_failed_has_recorded_is_not_the_commands_result(
    pauses: Pauses, tmp_path: Path
) -> None:
    class Counter(ComputeService):
        def __init__(self) -> None:
            self.attempts = 0
            self.recorded: list[bytes | None] = []

        @command
        async def count(self) -> int:
            self.attempts += 1
            context = running_command()
            assert context is not None
            self.recorded.append(context.outcome)
            async with self.database.operation() as operation:
                await operation.session.merge(ShelfRow(id=1, amount=self.attempts))
                if self.attempts == 1:
                    operation.result(self.attempts)
                    raise ConnectionError
            return self.attempts

    database = Database(f"sqlite:///{tmp_path}/counter.db")
    await database.create_tables(Base.metadata)
    app = App("counter", services=[Counter], database=database, middleware=[pauses.retries(commands=True)])
    async with app.local() as host:
        count = host.command("Counter.count")
        assert await host.execute(count.invocation((), "id-1")) == 2
        assert await host.execute(count.invocation((), "id-1")) == 2
        assert host.service(Counter).recorded == [None, None]


async def test_errors_of_the_database_are_left_to_those_who_run_commands_again(pauses: Pauses) -> None:
    cause = sqlite3.OperationalError("database is locked")
    async with baking(pauses.retries(commands=True)) as bakery:
        bakery.errors = [OperationalError("UPDATE", {}, cause)]
        assert await bakery.order("roll") == "one roll for nobody"
        assert pauses.made_s == []


async def test_an_outcome_that_is_unknown_is_not_tried_again(pauses: Pauses) -> None:
    async with baking(pauses.retries(commands=True)) as bakery:
        bakery.errors = [CommandOutcomeUnknown("perhaps")]
        with pytest.raises(CommandOutcomeUnknown):
            await bakery.order("roll")
        assert bakery.log == ["order(roll)"]


def fail_once(shelves: Shelves, place: str) -> None:
    """Let the command fail the first time that it comes by there."""
    failed: list[str] = []

    async def at(here: str) -> None:
        if here == place and not failed:
            failed.append(here)
            raise ConnectionError(here)

    shelves.at = at  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"first_pause_s": -1}, "first_pause_s"),
        ({"longest_pause_s": float("nan")}, "longest_pause_s"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        Retries(**options)
    assert caught.value.field == field
