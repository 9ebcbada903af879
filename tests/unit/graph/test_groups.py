"""A compute method that returns nothing stands for a group: depended on by many, invalidated once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, compute_method

S = TypeVar("S", bound=ComputeService)


class Pages(ComputeService):
    """Pages of lists of names; whatever lists something depends on `list_pages(kind)`."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {"fruit": ["apple", "banana", "cherry"], "nut": ["hazel"]}
        self.log: list[str] = []

    @compute_method
    async def list_pages(self, kind: str) -> None:
        """Stand for all pages of a kind."""

    @compute_method
    async def page(self, kind: str, number: int) -> list[str]:
        await self.list_pages(kind)
        self.log.append(f"{kind} {number}")
        return self.names[kind][2 * number : 2 * number + 2]

    @compute_method
    async def count(self, kind: str) -> int:
        await self.list_pages(kind)
        self.log.append(f"{kind} count")
        return len(self.names[kind])

    async def add(self, kind: str, name: str) -> None:
        self.names[kind].append(name)
        await self.list_pages.invalidate(kind)


async def test_one_invalidation_reaches_all_that_depend_on_the_group(
    host: Callable[[Pages], Pages], graph: Graph
) -> None:
    pages = host(Pages())
    shown = [await pages.page("fruit", number) for number in range(2)]
    assert shown == [["apple", "banana"], ["cherry"]]
    assert await pages.count("fruit") == 3
    assert await pages.count("nut") == 1
    before = graph.stats.invalidations
    await pages.add("fruit", "date")
    assert graph.stats.invalidations - before == 4  # the group, two pages, the count
    pages.log.clear()
    assert await pages.page("fruit", 1) == ["cherry", "date"]
    assert await pages.count("fruit") == 4
    assert await pages.count("nut") == 1
    assert pages.log == ["fruit 1", "fruit count"]  # no page of nuts, and no page that nobody asked for


async def test_a_group_that_is_invalidated_twice_reaches_those_that_came_in_between(
    host: Callable[[Pages], Pages],
) -> None:
    pages = host(Pages())
    await pages.count("nut")
    await pages.add("nut", "pecan")
    await pages.add("nut", "walnut")  # nobody depends on the group now
    assert await pages.count("nut") == 3
    await pages.add("nut", "almond")
    assert await pages.count("nut") == 4


async def test_what_depends_on_a_group_is_invalidated_when_the_group_is_evicted(
    host: Callable[[Pages], Pages], graph: Graph
) -> None:
    pages = host(Pages())
    count = pages.count("nut")
    await count
    group = pages.list_pages.peek("nut")
    assert group is not None
    assert group.value is None
    group.invalidate()
    assert not count.is_consistent
