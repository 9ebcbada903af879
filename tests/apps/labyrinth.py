"""Places that lead to each other, on as many shards as a test likes: an app whose keys can wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from fusion_cluster import App, CircularDependencyError, ComputeService, command, compute_method, gather, isolated
from fusion_cluster.testing import LocalCluster


class Plan:
    """What stands for the data.

    Attributes:
        ways: place -> the places that it leads to.
        gates: place -> what it waits for before it looks at its ways.
        cautious: places that take a cycle beneath them for a dead end.
        given_up: the places that have ceased to wait for a way.
        log: the places that were computed.
    """

    def __init__(self) -> None:
        self.ways: dict[str, Sequence[str]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.cautious: set[str] = set()
        self.given_up: list[str] = []
        self.log: list[str] = []


class Labyrinth(ComputeService):
    plan: ClassVar[Plan]

    @compute_method
    async def walk(self, place: str) -> int:
        plan = self.plan
        plan.log.append(place)
        ways = plan.ways.get(place, ())
        if place in plan.gates:
            await plan.gates[place].wait()
        try:
            return 1 + sum(await gather(*(self.walk(way) for way in ways)))
        except CircularDependencyError:
            if place in plan.cautious:
                return 0
            raise

    @compute_method
    async def stroll(self, place: str) -> int:
        """Go the ways one after the other; a cautious place takes each that is refused for a dead end."""
        plan = self.plan
        plan.log.append(place)
        total = 1
        for way in plan.ways.get(place, ()):
            if place in plan.gates:
                await plan.gates[place].wait()
            try:
                total += await self.stroll(way)
            except CircularDependencyError:
                if place not in plan.cautious:
                    raise
                total += 1000
        return total

    @compute_method
    async def look_on(self, place: str) -> int:
        """Stroll from a place, without being a part of where it leads."""
        return await self.stroll(place)

    @compute_method
    async def walk_isolated(self, place: str) -> int:
        with isolated():
            return 1 + sum([await self.walk_isolated(way) for way in self.plan.ways.get(place, ())])

    @compute_method(offload="thread")
    async def walk_in_a_thread(self, place: str) -> int:
        return 1 + sum([await self.walk_in_a_thread(way) for way in self.plan.ways.get(place, ())])

    @compute_method(consolidation_delay=0.0)
    async def walk_calmly(self, place: str) -> int:
        return 1 + sum([await self.walk_calmly(way) for way in self.plan.ways.get(place, ())])

    @compute_method
    async def hurry(self, place: str) -> int:
        """Give the ways up after a while, and go on."""
        plan = self.plan
        plan.log.append(place)
        total = 1
        for way in plan.ways.get(place, ()):
            try:
                async with asyncio.timeout(0.02):
                    total += await self.dawdle(way)
            except TimeoutError:
                total += 1000
                plan.given_up.append(place)
        await plan.gates[place].wait()
        return total

    @compute_method
    async def dawdle(self, place: str) -> int:
        """Do not notice that nobody waits any more."""
        plan = self.plan
        plan.log.append(place)
        gate = asyncio.ensure_future(plan.gates[place].wait())
        while not gate.done():
            try:
                await asyncio.shield(gate)
            except asyncio.CancelledError:
                continue
        return 1 + sum([await self.hurry(way) for way in plan.ways.get(place, ())])

    @command
    async def lead(self, place: str, ways: list[str]) -> None:
        self.plan.ways[place] = ways
        self.walk.invalidate(place)
        self.stroll.invalidate(place)

    @command
    async def measure(self, place: str, start: str) -> int:
        return await self.walk(start)


app = App("labyrinth", services=[Labyrinth])


def fresh_plan() -> Plan:
    Labyrinth.plan = Plan()
    return Labyrinth.plan


def places_on(cluster: LocalCluster, shard_id: int, count: int = 1) -> list[str]:
    """Places that a shard owns; others each time it is asked for more."""
    names = (f"{letter}{number}" for number in range(1, 100) for letter in "abcdefgh")
    return [name for name in names if cluster.owner("Labyrinth.walk", name).address.shard_id == shard_id][:count]
