"""A.24: spellings of one value are one key and seen as one, in one process, in a cluster and by a client."""

from __future__ import annotations

import datetime
import enum
import math
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.client import connect
from fusion_cluster.errors import InvalidArgument
from tests.clients import fronted

TOKYO = zoneinfo.ZoneInfo("Asia/Tokyo")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
SECOND_HALF_PAST_TWO = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
FIRST_HALF_PAST_TWO = SECOND_HALF_PAST_TWO.replace(fold=0)


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Corner(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Note:
    text: str
    author: str = field(default="", compare=False)


def utc(hour: int, minute: int) -> datetime.datetime:
    return datetime.datetime(2024, 10, 27, hour, minute, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Case:
    """Spellings of one argument, and what a body sees of each.

    Attributes:
        hint: of the parameter.
        spellings: by the text of what the body sees: those with one text are one key, others are others.
        refused: what is no argument of that type.
        in_commands: what the body of a command sees where that is something else.
    """

    hint: Any
    spellings: dict[str, list[Any]]
    refused: tuple[Any, ...] = ()
    in_commands: dict[str, str] = field(default_factory=dict)


CASES: tuple[Case, ...] = (
    Case(
        datetime.datetime,
        {
            repr(utc(1, 30)): [
                SECOND_HALF_PAST_TWO,
                utc(1, 30),
                utc(1, 30).astimezone(zoneinfo.ZoneInfo("Asia/Tokyo")),
            ],
            repr(utc(0, 30)): [FIRST_HALF_PAST_TWO, utc(0, 30)],
            repr(datetime.datetime(2024, 10, 27, 2, 30)): [
                datetime.datetime(2024, 10, 27, 2, 30),
                datetime.datetime(2024, 10, 27, 2, 30, fold=1),
            ],
        },
        refused=(datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2))), "today"),
    ),
    Case(
        datetime.time,
        {
            repr(zone_time): [zone_time]
            for zone_time in (
                datetime.time(12, tzinfo=datetime.UTC),
                datetime.time(14, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            )
        },
        refused=(datetime.time(12, tzinfo=BERLIN),),
    ),
    Case(Color, {"<Color.RED: 'red'>": ["red", Color.RED]}, refused=("blue", 1)),
    Case(str, {"'red'": ["red", Color.RED]}, refused=("half: \ud83d", b"red")),
    Case(Level, {"<Level.LOW: 1>": [Level.LOW, 1]}, refused=(2, "LOW", True)),
    Case(int, {"1": [1, Level.LOW, True, 1.0]}, refused=(1.5, 10**400, "1")),
    Case(float, {"1.0": [1, 1.0, True], "0.0": [0.0], "nan": [math.nan, -math.nan]}, refused=(10**400,)),
    Case(Corner, {"Corner(x=1, y=2)": [Corner(1, 2), (1, 2)]}, refused=((1, 2, 3), {1, 2})),
    Case(tuple[int, int], {"(1, 2)": [Corner(1, 2), (1, 2), (True, 2.0)]}),
    Case(tuple[bool | int, ...], {"(1,)": [(1,)], "(True,)": [(True,)]}),
    Case(
        Note,
        {"Note(text='a', author='x')": [Note("a", "x")], "Note(text='a', author='y')": [Note("a", "y")]},
        refused=("a",),
    ),
    Case(
        Decimal,
        {"Decimal('1')": [Decimal("1.00"), Decimal(1), 1], "Decimal('NaN')": [Decimal("NaN"), Decimal("-NaN")]},
        in_commands={"1.00": "Decimal('1.00')", "-NaN": "Decimal('-NaN')"},
    ),
    Case(
        list[float],
        {"[1.0, 2.0]": [[1, 2.0], (True, 2)], "[2.0, 1.0]": [[2, 1]]},
        refused=(["a"], {1.0, 2.0}, "ab"),
    ),
    Case(
        dict[str, int],
        {"{'a': 1, 'b': 2}": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]},
        in_commands={"{'b': 2, 'a': 1}": "{'b': 2, 'a': 1}"},
    ),
    Case(
        Any,
        {
            "[1, 'red']": [(1, Color.RED), [1, "red"]],
            "[True, 'red']": [(True, "red")],
            "1.0": [1.0],
            "1": [1, Level.LOW],
        },
        refused=(Decimal(1), Note("a"), datetime.date(2024, 1, 1), object()),
    ),
)


def service_of(number: int, hint: Any) -> type[ComputeService]:
    async def read(self: Any, value: Any) -> str:
        text = repr(value)
        if isinstance(value, list):
            value.append("spoiled")
        return text

    async def write(self: Any, value: Any) -> str:
        return repr(value)

    read.__annotations__["value"] = write.__annotations__["value"] = hint
    methods = {"read": compute_method(read), "write": command(write), "__module__": __name__}
    return type(f"Case{number}", (ComputeService,), methods)


SERVICES = [service_of(number, case.hint) for number, case in enumerate(CASES)]
app = App("settings", SERVICES)


async def check(service_in: Callable[[Any], Any]) -> None:
    for case, service in zip(CASES, map(service_in, SERVICES), strict=True):
        nodes: dict[str, Any] = {}
        for seen, spellings in case.spellings.items():
            for spelling in spellings:
                node = service.read(spelling)
                assert nodes.setdefault(seen, node) is node, f"{spelling!r} is one key with others of {seen}"
                assert await node == seen
                assert await service.write(spelling) == case.in_commands.get(str(spelling), seen)
        assert len(set(map(id, nodes.values()))) == len(nodes), case.hint
        for wrong in case.refused:
            for method in (service.read, service.write):
                with pytest.raises(InvalidArgument) as caught:
                    await method(wrong)
                assert caught.value.field == "value"


async def test_spellings_are_one_key_and_seen_as_one_value_in_every_setting() -> None:
    async with app.local() as host:
        await check(host.service)
    async with fronted(app) as front:
        await check(front.cluster.service)
        async with connect(front.address) as client:
            await check(client.service)


async def test_the_hour_that_comes_twice_is_invalidated_in_any_zone() -> None:
    async with app.local() as host:
        service: Any = host.service(SERVICES[0])
        node = service.read(SECOND_HALF_PAST_TWO)
        await node
        await service.read.invalidate(utc(0, 30))
        assert node.is_consistent
        await service.read.invalidate(utc(1, 30))
        assert not node.is_consistent


async def test_an_error_of_the_plain_text_is_not_what_a_member_of_the_enumeration_gets() -> None:
    class Paints(ComputeService):
        @compute_method
        async def name_of(self, color: Color) -> str:
            return color.name

    async with App("paints", [Paints]).local() as host:
        paints: Any = host.service(Paints)
        assert await paints.name_of("red") == "RED"
        assert paints.name_of("red") is paints.name_of(Color.RED)


async def test_a_body_that_changes_its_arguments_changes_them_for_nobody_else() -> None:
    class Lists(ComputeService):
        @compute_method
        async def read(self, items: list[int]) -> int:
            items.append(0)
            return len(items)

        @command
        async def write(self, items: list[int]) -> int:
            items.append(0)
            return len(items)

    async with App("lists", [Lists]).local() as host:
        mine = [1, 2]
        node = host.service(Lists).read(mine)
        mine.append(3)
        assert await node == 3
        node.invalidate()
        assert (await node.update()).value == 3, "the key is what it was, and so is what the body is given"
        write = host.command("Lists.write")
        arguments = write.signature.bind((mine,), {})
        assert [await write.body(arguments) for _ in range(2)] == [4, 4], "a rerun is given what the first run was"
        assert mine == [1, 2, 3]
