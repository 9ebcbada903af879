"""An app for tests of verification: honest methods, and commands and methods with planted faults."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from typing import ClassVar

from fusion_cluster import (
    App,
    ComputeService,
    DatabaseUnavailable,
    VerifyOptions,
    command,
    compute_method,
    expire_after,
    principal,
)

SHELVES = 20


class Store:
    """The data, outside of all graphs, as a database would be."""

    def __init__(self) -> None:
        self.rows: defaultdict[int, int] = defaultdict(int)
        self.tags: defaultdict[int, set[str]] = defaultdict(set)
        self.runs: Counter[str] = Counter()
        self.numbers = itertools.count()
        self.is_away = False
        # Set to hold up the bodies of `Shelves.slow`.
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0


class Shelves(ComputeService):
    """What lies on the shelves."""

    store: ClassVar[Store]

    @compute_method
    async def count(self, shelf: int) -> int:
        self.store.runs["count"] += 1
        if self.store.is_away:
            raise DatabaseUnavailable("the store is away")
        if self.store.rows[shelf] < 0:
            raise ValueError(f"no shelf {shelf}")
        return self.store.rows[shelf]

    @compute_method
    async def tags(self, shelf: int) -> set[str]:
        return set(self.store.tags[shelf])

    @compute_method
    async def by_tag(self, shelf: int) -> dict[str, int]:
        names = sorted(self.store.tags[shelf], reverse=next(self.store.numbers) % 2 == 0)
        return {name: len(name) for name in names}

    @compute_method(invalidation_delay=10)
    async def lagging(self, shelf: int) -> int:
        return self.store.rows[shelf]

    @compute_method(consolidation_delay=10)
    async def rough(self, shelf: int) -> float:
        value = self.store.rows[shelf] // 10
        return value if next(self.store.numbers) % 2 else float(value)

    @compute_method(auto_invalidation_delay=3600)
    async def hourly(self, shelf: int) -> int:
        return self.store.rows[shelf]

    @compute_method
    async def brief(self, shelf: int) -> int:
        expire_after(3600)
        return self.store.rows[shelf]

    @compute_method(offload="thread")
    def heavy(self, shelf: int) -> int:
        self.store.runs["heavy"] += 1
        return self.store.rows[shelf]

    @compute_method
    async def number(self, shelf: int) -> int:
        """Gives another value each time, and nobody is told: a fault that is none of staleness."""
        return next(self.store.numbers)

    @compute_method
    async def mine(self, shelf: int) -> str:
        return f"{principal()} has {self.store.rows[shelf]}"

    @compute_method
    async def slow(self, shelf: int) -> int:
        self.store.waiting += 1
        await self.store.gate.wait()
        return self.store.rows[shelf]

    @compute_method
    async def items(self, shelf: int) -> list[int]:
        return [self.store.rows[shelf]]

    @command
    async def put(self, shelf: int, count: int) -> None:
        self.store.rows[shelf] = count
        for method in (self.count, self.lagging, self.rough, self.brief, self.mine, self.slow, self.items):
            method.invalidate(shelf)

    @command
    async def forget(self, shelf: int, count: int) -> None:
        """The planted fault: changes a row, and does not invalidate `count`, which reads it."""
        self.store.rows[shelf] = count


class Halls(ComputeService):
    """What is computed from shelves of all shards."""

    shelves: Shelves

    @compute_method
    async def total(self, shelves: int) -> int:
        return sum([await self.shelves.count(shelf) for shelf in range(shelves)])


app = App("warehouse", services=[Shelves, Halls])
watched_app = App("warehouse", services=[Shelves, Halls], verify=VerifyOptions(rate=20, bound_s=5))


def fresh_store() -> Store:
    """Data of its own for one test."""
    Shelves.store = Store()
    return Shelves.store
