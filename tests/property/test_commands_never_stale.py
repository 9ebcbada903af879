"""Random commands, cancelled at random places, beside readers: nobody is given what is older than a returned one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import command
from fusion_cluster.database import Database
from fusion_cluster.graph import compute_method, gather
from fusion_cluster.host import LocalHost
from tests.apps.shelves import Base, ShelfRow
from tests.waiting import until

SHELVES = 4


class Counters(ComputeService):
    database: Database

    @compute_method
    async def count(self, shelf_id: int) -> int:
        async with self.database.session() as session:
            row = await session.get(ShelfRow, shelf_id)
            return row.amount if row else 0

    @compute_method
    async def sum(self) -> int:
        return sum(await gather(*(self.count(shelf_id) for shelf_id in range(SHELVES))))

    @command
    async def bump(self, shelf_id: int, *, fails: bool = False) -> int:
        async with self.database.operation() as operation:
            row = await operation.session.get(ShelfRow, shelf_id)
            if row is None:
                row = ShelfRow(id=shelf_id, amount=0)
                operation.session.add(row)
            row.amount += 1
            self.count.invalidate(shelf_id)
            await operation.session.flush()
            if fails:
                raise LookupError("no")
            return row.amount

    @command
    async def bump_both(self, first: int, second: int) -> tuple[int, int]:
        async with self.database.operation():
            return await self.bump(first), await self.bump(second)


class Actors:
    """Tasks that write and read, and what they know must be seen by now."""

    def __init__(self, counters: Counters, seed: int) -> None:
        self.counters = counters
        self.random = random.Random(seed)
        self.least = dict.fromkeys(range(SHELVES), 0)
        self.is_over = False

    async def write(self, times: int) -> None:
        for _ in range(times):
            first, second = self.random.sample(range(SHELVES), 2)
            kind = self.random.choice(("one", "both", "fails", "cancelled", "cancelled"))
            if kind == "one":
                self.learn(first, await self.counters.bump(first))
            elif kind == "both":
                for shelf_id, count in zip((first, second), await self.counters.bump_both(first, second), strict=True):
                    self.learn(shelf_id, count)
            elif kind == "fails":
                with pytest.raises(LookupError):
                    await self.counters.bump(first, fails=True)
            else:
                run = asyncio.ensure_future(self.counters.bump_both(first, second))
                for _ in range(self.random.randrange(60)):
                    await asyncio.sleep(0)
                run.cancel()
                await asyncio.wait([run])

    def learn(self, shelf_id: int, count: int) -> None:
        self.least[shelf_id] = max(self.least[shelf_id], count)

    async def read(self) -> None:
        while not self.is_over:
            shelf_id = self.random.randrange(SHELVES)
            least, least_sum = self.least[shelf_id], sum(self.least.values())
            assert await self.counters.count(shelf_id) >= least
            assert await self.counters.sum() >= least_sum
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(6))
async def test_no_reader_is_given_what_is_older_than_a_returned_command(tmp_path: Path, seed: int) -> None:
    database = Database(f"sqlite:///{tmp_path}/shelves.db")
    await database.create_tables(Base.metadata)
    host: LocalHost
    async with App("counters", [Counters], database=database).local() as host:
        counters = host.service(Counters)
        actors = Actors(counters, seed)
        readers = [asyncio.create_task(actors.read()) for _ in range(3)]
        await asyncio.gather(*(actors.write(12) for _ in range(4)))
        actors.is_over = True
        await asyncio.gather(*readers)
        for shelf_id in range(SHELVES):
            async with database.session() as session:
                row = await session.get(ShelfRow, shelf_id)
            assert await counters.count(shelf_id) == (row.amount if row else 0) >= actors.least[shelf_id]
        assert await counters.sum() == sum([await counters.count(shelf_id) for shelf_id in range(SHELVES)])
        assert not len(host.turns)
        host.graph.validate()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
