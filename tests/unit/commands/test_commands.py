from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, assert_type

import pytest

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import BoundCommand, command, running_command
from fusion_cluster.errors import InvalidArgument, UsageError
from fusion_cluster.graph import Cause, Key, compute_method, isolated
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Gate, ShelfRow, Shelves, Stock, shelves_host
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[LocalHost]:
    async with shelves_host(database_url) as host:
        yield host


@pytest.fixture
def shelves(host: LocalHost) -> Shelves:
    return host.service(Shelves)


# -- what a command does -----------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_a_command_changes_what_depends_on_its_data_before_it_returns(shelves: Shelves) -> None:
    assert await shelves.total(1, 2) == 0
    assert await shelves.put(1, 5) == "1 holds 5"
    assert await shelves.total(1, 2) == 5
    assert await shelves.put(2, amount=3) == "2 holds 3"
    assert await shelves.total(1, 2) == 8


async def test_a_command_recomputes_only_what_it_changed(shelves: Shelves) -> None:
    await shelves.total(1, 2)
    shelves.log.clear()
    await shelves.put(1, 5)
    await shelves.total(1, 2)
    assert shelves.log == ["amount(1)"]


async def test_an_invalidation_of_another_services_method_is_recorded_too(host: LocalHost, shelves: Shelves) -> None:
    await shelves.put(1, 5)
    assert await shelves.amount(1) == 5
    await host.service(Stock).clear(1)
    assert await shelves.amount(1) == 0


@pytest.mark.both_databases
async def test_a_rolled_back_command_invalidates_nothing(shelves: Shelves) -> None:
    await shelves.put(1, 5)
    before = shelves.amount(1)
    assert await before == 5

    async def fail() -> None:
        raise LookupError("no")

    shelves.at = lambda place: fail() if place == "1: written" else _nothing()  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        await shelves.put(1, 6)
    assert before.is_consistent
    assert shelves.amount(1) is before
    async with shelves.database.session() as session:
        assert (await session.get_one(ShelfRow, 1)).amount == 5


async def _nothing() -> None:
    pass


async def test_nothing_is_invalidated_before_the_commit(shelves: Shelves) -> None:
    before = shelves.amount(1)
    await before
    gate = shelves.gates["1: written"] = Gate()
    run = asyncio.create_task(shelves.put(1, 5))
    await gate.reached.wait()
    assert before.is_consistent
    assert await shelves.amount(1) == 0
    gate.opened.set()
    await run
    assert not before.is_consistent
    assert await shelves.amount(1) == 5


async def test_a_command_that_fails_after_its_commit_has_published_it(shelves: Shelves) -> None:
    async def fail() -> None:
        raise LookupError("no")

    await shelves.total(1, 2)
    shelves.at = lambda place: fail() if place == "1: committed" else _nothing()  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        await shelves.put(1, 5)
    assert await shelves.total(1, 2) == 5


async def test_a_command_captures_no_dependencies(host: LocalHost, shelves: Shelves) -> None:
    await shelves.put(1, 5)
    await host.service(Stock).move(1, 2, 2)
    assert await shelves.total(1, 2) == 5
    assert (await shelves.amount(1), await shelves.amount(2)) == (3, 2)


# -- how it is called --------------------------------------------------------------------------------------------------
async def test_a_command_called_by_a_compute_method_is_a_usage_error(host: LocalHost, shelves: Shelves) -> None:
    with pytest.raises(UsageError, match="compute method"):
        await host.service(Stock).changing()
    assert await shelves.amount(1) == 0


async def test_a_task_that_outlives_the_computation_that_started_it_may_call_commands(database_url: str) -> None:
    started: list[asyncio.Task[str]] = []
    may_go = asyncio.Event()

    class Late(ComputeService):
        shelves: Shelves

        async def later(self) -> str:
            await may_go.wait()
            return await self.shelves.put(1, 5)

        @compute_method
        async def start(self) -> int:
            started.append(asyncio.create_task(self.later()))
            return 1

    Late.__annotations__["shelves"] = Shelves
    async with (
        shelves_host(database_url) as other,
        App("late", [Shelves, Late], database=other.app.database).local() as host,
    ):
        await host.service(Late).start()
        may_go.set()
        assert await started[0] == "1 holds 5"


async def test_wrong_arguments_are_named_before_anything_runs(shelves: Shelves) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await shelves.put(1)  # type: ignore[call-arg]
    assert caught.value.field == "amount"
    with pytest.raises(InvalidArgument) as caught:
        await shelves.put(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgument) as caught:
        await shelves.put(1, weight=2)  # type: ignore[call-arg]
    assert caught.value.field == "weight"
    with pytest.raises(InvalidArgument) as caught:
        await shelves.put(1, object())  # type: ignore[arg-type]
    assert caught.value.field == "amount"


def test_commands_keep_their_types() -> None:
    def check(shelves: Shelves) -> None:
        calls = shelves.put(1, 2), shelves.put(1, amount=2)
        assert_type(calls, tuple[Coroutine[Any, Any, str], Coroutine[Any, Any, str]])

    assert callable(check)


async def test_arguments_of_a_command_need_no_hash() -> None:
    class Lists(ComputeService):
        @command
        async def take(self, items: list[int], *, options: dict[str, float] | None = None) -> int:
            return sum(items) + len(options or ())

    async with App("lists", [Lists]).local() as host:
        assert await host.service(Lists).take([1, 2], options={"a": 1}) == 4


async def test_a_command_cannot_shard_by_a_parameter_that_it_has_not() -> None:
    with pytest.raises(UsageError, match="colour"):

        @command(shard_by="colour")
        async def paint(self: ComputeService, shelf_id: int) -> None: ...


async def test_only_coroutine_functions_are_commands() -> None:
    with pytest.raises(UsageError, match="async def"):

        @command  # type: ignore[arg-type]
        def paint(self: ComputeService, shelf_id: int) -> None: ...


async def test_an_unhosted_command_says_so() -> None:
    with pytest.raises(UsageError, match="not hosted"):
        await Shelves().put(1, 2)


async def test_a_subclass_calls_the_plain_body_through_super() -> None:
    class Plain(ComputeService):
        @command
        async def name(self, number: int) -> str:
            assert running_command() is not None
            return f"plain {number}"

    class Special(Plain):
        @command
        async def name(self, number: int) -> str:
            return "special " + await super().name(number)

    async with App("names", [Special]).local() as host:
        assert await host.service(Special).name(1) == "special plain 1"


# -- turns -------------------------------------------------------------------------------------------------------------
class Turnstile(ComputeService):
    """Commands that say when they begin and end, and wait in between until they are told to go on."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.go_on: dict[str, asyncio.Event] = {}

    async def _run(self, name: str) -> str:
        self.log.append(f"{name} begins")
        await self.go_on.setdefault(name, asyncio.Event()).wait()
        self.log.append(f"{name} ends")
        return name

    def let(self, name: str) -> None:
        self.go_on.setdefault(name, asyncio.Event()).set()

    @command
    async def first(self, key: int, name: str) -> str:
        return await self._run(name)

    @command
    async def second(self, key: int, name: str) -> str:
        return await self._run(name)

    @command(shard_by="key")
    async def third(self, name: str, key: int) -> str:
        return await self._run(name)

    @command
    async def outer(self, key: int, name: str) -> str:
        return await self.first(key, name)


class Neighbour(ComputeService):
    shard_group = "Turnstile"
    turnstile: Turnstile

    @command
    async def enter(self, key: int, name: str) -> str:
        return await self.turnstile._run(name)


@pytest.fixture
async def turnstile_host() -> AsyncIterator[LocalHost]:
    async with App("turns", [Turnstile, Neighbour]).local() as host:
        yield host
        assert not len(host.turns)


async def test_commands_of_one_key_do_not_interleave(turnstile_host: LocalHost) -> None:
    turnstile, neighbour = turnstile_host.service(Turnstile), turnstile_host.service(Neighbour)
    runs = [
        asyncio.create_task(turnstile.first(1, "a")),
        asyncio.create_task(turnstile.second(1, "b")),
        asyncio.create_task(turnstile.third("c", 1)),
        asyncio.create_task(neighbour.enter(1, "d")),
    ]
    for name in "dcba":
        turnstile.let(name)
    assert await asyncio.gather(*runs) == ["a", "b", "c", "d"]
    assert turnstile.log == [f"{name} {what}" for name in "abcd" for what in ("begins", "ends")]


async def test_commands_of_different_keys_interleave(turnstile_host: LocalHost) -> None:
    turnstile = turnstile_host.service(Turnstile)
    runs = [asyncio.create_task(turnstile.first(key, name)) for key, name in ((1, "a"), (2, "b"))]
    await until(lambda: turnstile.log == ["a begins", "b begins"])
    turnstile.let("b")
    await runs[1]
    turnstile.let("a")
    await runs[0]
    assert turnstile.log == ["a begins", "b begins", "b ends", "a ends"]


async def test_a_cancelled_command_gives_its_turn_to_the_next(turnstile_host: LocalHost) -> None:
    turnstile = turnstile_host.service(Turnstile)
    runs = [asyncio.create_task(turnstile.first(1, name)) for name in "abc"]
    await until(lambda: turnstile.log == ["a begins"])
    runs[1].cancel()
    runs[0].cancel()
    turnstile.let("c")
    assert await runs[2] == "c"
    assert turnstile.log == ["a begins", "c begins", "c ends"]
    assert all(run.cancelled() for run in runs[:2])


async def test_a_command_that_calls_another_of_its_key_does_not_wait_for_itself(turnstile_host: LocalHost) -> None:
    turnstile = turnstile_host.service(Turnstile)
    turnstile.let("a")
    assert await asyncio.wait_for(turnstile.outer(1, "a"), 5) == "a"


# -- publications ------------------------------------------------------------------------------------------------------
class SlowHost(LocalHost):
    """A host whose publications end when the test says so, as those to other shards do."""

    def __init__(self, app: App, *, max_nodes: int = 1000) -> None:
        super().__init__(app, max_nodes=max_nodes)
        self.published: list[tuple[Key, ...]] = []
        self.barriers: list[bool] = []
        self.confirmations: list[asyncio.Future[None]] = []

    def publish(self, keys: Mapping[Key, Cause], barrier: bool, operation_id: str = "") -> asyncio.Future[None]:
        super().publish(keys, barrier, operation_id)
        self.published.append(tuple(keys))
        self.barriers.append(barrier)
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.confirmations.append(confirmation)
        return confirmation

    def confirm(self) -> None:
        for confirmation in self.confirmations:
            if not confirmation.done():
                confirmation.set_result(None)


class Plain(ComputeService):
    """Commands that invalidate outside an operation."""

    @compute_method
    async def value(self, number: int) -> str:
        return "value"

    @command
    async def touch(self, number: int) -> str:
        self.value.invalidate(number)
        assert self.value.peek(number) is None
        return "touched"

    @command(barrier=False)
    async def touch_lightly(self, number: int) -> str:
        self.value.invalidate(number)
        return "touched"

    @command
    async def touch_and_fail(self, number: int) -> str:
        self.value.invalidate(number)
        raise LookupError("no")

    @command
    async def touch_impatiently(self, number: int) -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_as_coroutine(self.value.invalidate(number)), 0)
        return "touched"


async def _as_coroutine(awaitable: Any) -> None:
    await awaitable


@pytest.fixture
async def slow_host() -> AsyncIterator[SlowHost]:
    host = SlowHost(App("slow", [Plain]))
    yield host
    await host.close()
    for confirmation in host.confirmations:
        confirmation.cancel()


@pytest.mark.parametrize("method", ["touch", "touch_lightly", "touch_impatiently"])
async def test_an_invalidation_outside_an_operation_applies_at_once_and_the_return_waits_for_it(
    slow_host: SlowHost, method: str
) -> None:
    plain = slow_host.service(Plain)
    await plain.value(1)
    bound: BoundCommand[[int], str] = getattr(plain, method)
    run = asyncio.create_task(bound(1))
    await until(lambda: slow_host.published)
    assert plain.value.peek(1) is None
    for _ in range(10):
        await asyncio.sleep(0)
    assert not run.done()
    slow_host.confirm()
    assert await run == "touched"
    assert slow_host.barriers == [method != "touch_lightly"]


async def test_a_failing_command_waits_for_its_publications_too(slow_host: SlowHost) -> None:
    run = asyncio.create_task(slow_host.service(Plain).touch_and_fail(1))
    await until(lambda: slow_host.published)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not run.done()
    slow_host.confirm()
    with pytest.raises(LookupError):
        await run


async def test_a_command_whose_publication_fails_says_so(slow_host: SlowHost) -> None:
    run = asyncio.create_task(slow_host.service(Plain).touch(1))
    await until(lambda: slow_host.published)
    slow_host.confirmations[0].set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await run


async def test_the_publication_of_a_cancelled_command_goes_on(slow_host: SlowHost) -> None:
    run = asyncio.create_task(slow_host.service(Plain).touch(1))
    await until(lambda: slow_host.published)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not slow_host.confirmations[0].cancelled()
    slow_host.confirm()


async def test_an_invalidation_outside_a_command_waits_for_nobody(slow_host: SlowHost) -> None:
    plain = slow_host.service(Plain)
    before = plain.value(1)
    await before
    waiting = plain.value.invalidate(1)
    assert not before.is_consistent
    assert slow_host.barriers == [False]
    slow_host.confirm()
    await waiting
    await waiting


async def test_no_task_or_context_is_left_behind(host: LocalHost, shelves: Shelves) -> None:
    await shelves.put(0, 1)
    before = asyncio.all_tasks()
    for number in range(20):
        await shelves.put(number, 1)
    await until(lambda: asyncio.all_tasks() <= before)
    assert not len(host.turns)
    assert running_command() is None
    gc.collect()


async def test_a_compute_method_cannot_change_data_under_isolated_either(database_url: str) -> None:
    class Meddling(ComputeService):
        shelves: Shelves

        @compute_method
        async def by_command(self) -> str:
            with isolated():
                return await self.shelves.put(1, 5)

        @compute_method
        async def by_operation(self) -> None:
            with isolated():
                async with self.database.operation():
                    pass

    async with (
        shelves_host(database_url) as shelves,
        App("m", [Shelves, Meddling], database=shelves.app.database).local() as host,
    ):
        meddling = host.service(Meddling)
        with pytest.raises(UsageError, match="a compute method cannot call it"):
            await meddling.by_command()
        with pytest.raises(UsageError, match="a compute method cannot change data"):
            await meddling.by_operation()
