"""A.21: an invalidation that a command makes names the command, its arguments, its id, and the line that makes it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import command, running_command
from fusion_cluster.errors import InvalidArgument, UnknownMethod
from fusion_cluster.graph import Cause, Explanation, compute_method
from fusion_cluster.host import LocalHost
from tests.apps.shelves import ShelfRow, Shelves, Stock, shelves_host

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


class Boxes(ComputeService):
    """Numbers in memory: commands without a database."""

    def __init__(self) -> None:
        self.contents: dict[str, int] = {}
        self.ids: list[str] = []

    @compute_method
    async def content(self, name: str) -> int:
        return self.contents.get(name, 0)

    @compute_method
    async def sum_of(self, names: tuple[str, ...]) -> int:
        return sum([await self.content(name) for name in names])

    @command
    async def put(self, name: str, amount: int, note: object = None) -> None:
        running = running_command()
        assert running is not None
        self.ids.append(running.command_id)
        self.contents[name] = amount
        self.content.invalidate(name)

    @command
    async def put_all(self, names: list[str]) -> None:
        for name in names:
            await self.put(name, 1)

    @command
    async def drop(self, name: str) -> None:
        node = self.content.peek(name)
        self.contents.pop(name, None)
        if node is not None:
            node.invalidate()


def line_of(function: Callable[..., Any], text: str) -> int:
    """The line of a function, as written, in which `text` stands."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


def origin_of(explanation: Explanation | None) -> Cause:
    assert explanation is not None
    assert explanation.origin is not None
    return explanation.origin


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with App("boxes", [Boxes]).local() as host:
        yield host


@pytest.fixture
def boxes(host: LocalHost) -> Boxes:
    return host.service(Boxes)


@pytest.fixture
async def shelves(database_url: str) -> AsyncIterator[LocalHost]:
    async with shelves_host(database_url) as host:
        yield host


# -- without an operation ----------------------------------------------------------------------------------------------
async def test_a_command_is_named_with_its_arguments_its_id_and_the_line(host: LocalHost, boxes: Boxes) -> None:
    await boxes.sum_of(("a", "b"))
    await boxes.put("a", 5, note={"why": "stock taking"})
    explanation = host.why("Boxes.sum_of", ("a", "b"))
    origin = origin_of(explanation)
    assert explanation is not None
    assert [str(hop) for hop in explanation.hops] == ["Boxes.sum_of(('a', 'b'))", "Boxes.content('a')"]
    assert origin.kind == "command"
    assert origin.command is not None
    assert origin.command.name == "Boxes.put"
    assert origin.command.arguments == "'a', 5, {'why': 'stock taking'}"
    assert origin.command.command_id == boxes.ids[0]
    assert origin.place is not None
    assert origin.place.file == __file__
    assert origin.place.function == "Boxes.put"
    assert origin.place.line == line_of(Boxes.put.body, "self.content.invalidate(name)")
    assert str(origin) == (
        f"command Boxes.put('a', 5, {{'why': 'stock taking'}}) (id {boxes.ids[0]}) at {origin.place}"
    )


async def test_the_id_is_that_of_the_caller_where_there_is_one(host: LocalHost, boxes: Boxes) -> None:
    await boxes.content("a")
    await host.execute(host.command("Boxes.put").invocation(("a", 3, None), "the-id"))
    command_run = origin_of(host.why("Boxes.content", "a")).command
    assert command_run is not None
    assert command_run.command_id == "the-id"


async def test_a_command_within_another_is_part_of_that_and_the_line_says_where(host: LocalHost, boxes: Boxes) -> None:
    await boxes.content("b")
    await boxes.put_all(["a", "b"])
    origin = origin_of(host.why("Boxes.content", "b"))
    assert origin.command is not None
    assert origin.command.name == "Boxes.put_all"
    assert origin.place is not None
    assert origin.place.function == "Boxes.put"


async def test_of_long_arguments_only_the_beginning_is_kept(host: LocalHost, boxes: Boxes) -> None:
    await boxes.content("a")
    await boxes.put("a", 1, note=["x" * 1000] * 1000)
    run = origin_of(host.why("Boxes.content", "a")).command
    assert run is not None
    assert run.arguments.startswith("'a', 1, ['xxx")
    assert len(run.arguments) < 100


async def test_a_computed_that_a_command_invalidates_has_the_place_of_that(host: LocalHost, boxes: Boxes) -> None:
    await boxes.content("a")
    await boxes.drop("a")
    place = origin_of(host.why("Boxes.content", "a")).place
    assert place is not None
    assert (place.function, place.line) == ("Boxes.drop", line_of(Boxes.drop.body, "node.invalidate()"))


async def test_outside_of_commands_the_call_is_the_origin(host: LocalHost, boxes: Boxes) -> None:
    await boxes.content("a")
    await boxes.content.invalidate("a")
    origin = origin_of(boxes.content.why("a"))
    assert origin.kind == "call"
    assert origin.command is None
    assert origin.place is not None
    assert origin.place.function == "test_outside_of_commands_the_call_is_the_origin"


# -- in an operation ---------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_what_an_operation_records_has_the_line_that_recorded_it_and_not_that_of_the_commit(
    shelves: LocalHost,
) -> None:
    service = shelves.service(Shelves)
    await service.total(1, 2)
    await service.put(2, 7)
    explanation = service.total.why(1, 2)
    origin = origin_of(explanation)
    assert explanation is not None
    assert [str(hop) for hop in explanation.hops] == ["Shelves.total(1, 2)", "Shelves.amount(2)"]
    assert origin.command is not None
    assert (origin.command.name, origin.command.arguments) == ("Shelves.put", "2, 7")
    assert origin.place is not None
    assert origin.place.line == line_of(Shelves.put.body, "self.amount.invalidate(shelf_id)")
    assert origin.place.function == "Shelves.put"


async def test_what_is_recorded_in_a_savepoint_names_the_outermost_command(shelves: LocalHost) -> None:
    service, stock = shelves.service(Shelves), shelves.service(Stock)
    await service.put(1, 10)
    amounts = [service.amount(shelf) for shelf in (1, 2)]
    for amount in amounts:
        await amount
    await stock.move(1, 2, 4)
    for amount in amounts:
        origin = origin_of(shelves.graph.why(amount))
        assert origin.command is not None
        assert (origin.command.name, origin.command.arguments) == ("Stock.move", "1, 2, 4")
        assert origin.place is not None
        assert origin.place.function == "Shelves.put"


async def test_an_operation_of_a_script_has_the_place_of_the_call(shelves: LocalHost) -> None:
    service = shelves.service(Shelves)
    await service.amount(1)
    async with service.database.operation() as operation:
        operation.session.add(ShelfRow(id=1, amount=3))
        service.amount.invalidate(1)
        service.amount.invalidate(1)  # recorded already, for the first reason
    origin = origin_of(service.amount.why(1))
    assert origin.kind == "call"
    assert origin.place is not None
    assert origin.place.line == line_of(
        test_an_operation_of_a_script_has_the_place_of_the_call, "service.amount.invalidate(1)"
    )


async def test_what_is_rolled_back_is_no_reason(shelves: LocalHost) -> None:
    service = shelves.service(Shelves)
    await service.amount(1)

    async def script() -> None:
        async with service.database.operation():
            service.amount.invalidate(1)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await script()
    explanation = service.amount.why(1)
    assert explanation is not None
    assert explanation.trace is None


# -- asking a host -----------------------------------------------------------------------------------------------------
async def test_a_host_is_asked_by_the_name_of_the_method(host: LocalHost, boxes: Boxes) -> None:
    assert host.why("Boxes.content", "a") is None
    assert host.story("Boxes.content", "a") == []
    await boxes.content("a")
    await boxes.put("a", 1)
    assert host.why("Boxes.content", name="a") == boxes.content.why("a")
    assert host.story("Boxes.content", name="a") == boxes.content.story("a")
    assert len(host.story("Boxes.content", "a")) == 2


async def test_a_question_about_what_is_no_key_is_refused(host: LocalHost) -> None:
    with pytest.raises(UnknownMethod):
        host.why("Boxes.nothing", "a")
    with pytest.raises(UnknownMethod):
        host.story("Boxes.put", "a")
    with pytest.raises(InvalidArgument):
        host.why("Boxes.content")


async def test_a_host_remembers_as_much_as_it_is_told_to() -> None:
    app = App("boxes", [Boxes])
    async with app.local(history=0) as host:
        boxes = host.service(Boxes)
        await boxes.content("a")
        await boxes.put("a", 1)
        assert boxes.content.story("a") == []
    async with app.local(history=3) as host:
        boxes = host.service(Boxes)
        for _ in range(3):
            await boxes.content("a")
            await boxes.put("a", 1)
        assert len(boxes.content.story("a")) == 3
