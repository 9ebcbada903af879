"""The app of the standard scenario: counters, sums of groups of them, and the sum of all, over all shards.

Its data is in a `Store`, outside of the graph, as a database is. Counters only rise, so a value says which changes it
has in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import ClassVar, Final

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import command
from fusion_cluster.graph.compute_method import compute_method
from fusion_cluster.graph.gather import gather
from fusion_cluster.testing.simulation.chance import Chance
from fusion_router.host import ClusterHost

COUNTERS: Final = 4
IN_GROUP: Final = 2
GROUPS: Final = COUNTERS // IN_GROUP

_LONGEST_ACCESS_S: Final = 0.003


def members_of(method: str, counter: int) -> range:
    """Return the counters that a read adds up which a compute method of the app makes for a counter."""
    if method == "Counters.value":
        return range(counter, counter + 1)
    if method == "Groups.total":
        first = counter // IN_GROUP * IN_GROUP
        return range(first, first + IN_GROUP)
    return range(COUNTERS)


class Store:
    """The data of a run.

    Args:
        chance: decides how long each access takes.

    Attributes:
        values: the counters.
        changes: how often each change took effect, by its number.
    """

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.values = [0] * COUNTERS
        self.changes: dict[str, int] = {}

    async def access(self) -> None:
        """Take the time of one access."""
        await asyncio.sleep(self._chance.random() * _LONGEST_ACCESS_S if self._chance.happens(0.5) else 0)

    def add(self, counter: int, number: str) -> int:
        """Raise a counter by one, at once."""
        self.values[counter] += 1
        self.changes[number] = self.changes.get(number, 0) + 1
        return self.values[counter]


class Counters(ComputeService):
    """Numbers that only rise."""

    store: ClassVar[Store]

    @compute_method
    async def value(self, counter: int) -> int:
        """Return a counter."""
        await self.store.access()
        value = self.store.values[counter]
        await self.store.access()
        return value

    @command
    async def add(self, counter: int, number: str) -> int:
        """Raise a counter by one."""
        await self.store.access()
        value = self.store.add(counter, number)
        self.value.invalidate(counter)
        await self.store.access()
        return value


class Groups(ComputeService):
    """Sums of some counters."""

    counters: Counters

    @compute_method
    async def total(self, group: int) -> int:
        """Return the sum of a group."""
        first = group * IN_GROUP
        return sum(await gather(*(self.counters.value(counter) for counter in range(first, first + IN_GROUP))))


class Sums(ComputeService):
    """The sum of all."""

    groups: Groups

    @compute_method
    async def all(self, _of: int) -> int:
        """Return the sum of all counters."""
        return sum(await gather(*(self.groups.total(group) for group in range(GROUPS))))


def reading(host: ClusterHost, method: str, counter: int) -> Awaitable[int]:
    """Return the read of what a compute method has for a counter, as a member makes it."""
    if method == "Counters.value":
        return host.service(Counters).value(counter)
    if method == "Groups.total":
        return host.service(Groups).total(counter // IN_GROUP)
    return host.service(Sums).all(0)


app: Final = App("counters", services=[Counters, Groups, Sums])
"""Made once: it serves one world after the other."""
