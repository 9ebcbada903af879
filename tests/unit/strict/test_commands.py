"""What a strict host does with commands: arguments and results pass through their codecs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.errors import InvalidArgument, InvalidResult
from fusion_cluster.host import LocalHost


@dataclass
class Line:
    product: str
    notes: list[str]


class Orders(ComputeService):
    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.is_asked = False

    @command
    async def put(self, number: int, lines: list[Line], *, note: str = "") -> list[Line]:
        self.seen.append(lines)
        lines.append(Line("added", [note]))
        return lines

    @command
    async def wrong(self, number: int) -> int:
        return "three"  # type: ignore[return-value]

    @command
    async def unsendable(self, number: int) -> Any:
        return object()

    @command
    async def outer(self, number: int) -> str:
        await self.wrong(number)
        return "done"

    @compute_method
    async def read(self, number: int) -> int:
        return number


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with App("orders", [Orders]).local(strict=True) as host:
        yield host


async def test_neither_side_holds_the_objects_of_the_other(host: LocalHost) -> None:
    orders = host.service(Orders)
    lines = [Line("tea", ["green"])]
    result = await orders.put(1, lines, note="thanks")
    assert lines == [Line("tea", ["green"])]
    assert result == [Line("tea", ["green"]), Line("added", ["thanks"])]
    assert orders.seen[0] == result
    assert orders.seen[0] is not result


@pytest.mark.parametrize(
    ("arguments", "field"),
    [((1, "tea"), "lines"), (("one", []), "number"), ((1, [{"product": "tea"}]), "lines"), ((1, [3]), "lines")],
)
async def test_arguments_of_the_wrong_type_are_refused(host: LocalHost, arguments: Any, field: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^Orders.put: {field}") as caught:
        await host.service(Orders).put(*arguments)
    assert caught.value.field == field
    assert host.service(Orders).seen == []


@pytest.mark.parametrize("method", ["wrong", "outer"])
async def test_a_result_that_is_not_as_the_annotation_says_is_refused(host: LocalHost, method: str) -> None:
    with pytest.raises(InvalidResult, match=r"^Orders.wrong says that it returns int, .* got `str`"):
        await getattr(host.service(Orders), method)(1)


async def test_a_result_that_cannot_travel_is_refused(host: LocalHost) -> None:
    with pytest.raises(InvalidResult, match=r"^Orders.unsendable: its result cannot leave the process"):
        await host.service(Orders).unsendable(1)


async def test_a_host_that_is_not_strict_passes_results_on_as_they_are() -> None:
    async with App("orders", [Orders]).local(strict=False) as host:
        orders, lines = host.service(Orders), [Line("tea", ["green"])]
        result = await orders.put(1, lines)
        assert result is orders.seen[-1]
        assert lines == [Line("tea", ["green"])], "arguments are the body's own in every host"
