"""Services with data for the tests of commands: shelves that hold numbers, and the sums of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import command
from fusion_cluster.database import Database, LogOptions
from fusion_cluster.database.database import DEFAULT_LOG_OPTIONS
from fusion_cluster.graph import compute_method
from fusion_cluster.host import LocalHost


class Base(DeclarativeBase):
    pass


class ShelfRow(Base):
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


class Gate:
    """A place in a command where a test lets it wait."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


class Shelves(ComputeService):
    database: Database

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, Gate] = {}

    async def at(self, place: str) -> None:
        gate = self.gates.get(place)
        if gate is not None:
            await gate.pass_through()

    @compute_method
    async def amount(self, shelf_id: int) -> int:
        self.log.append(f"amount({shelf_id})")
        async with self.database.session() as session:
            row = await session.get(ShelfRow, shelf_id)
            return row.amount if row else 0

    @compute_method
    async def total(self, first: int, second: int) -> int:
        return await self.amount(first) + await self.amount(second)

    @command
    async def put(self, shelf_id: int, amount: int) -> str:
        await self.at(f"{shelf_id}: begin")
        async with self.database.operation() as operation:
            await operation.session.merge(ShelfRow(id=shelf_id, amount=amount))
            self.amount.invalidate(shelf_id)
            await operation.session.flush()
            await self.at(f"{shelf_id}: written")
        await self.at(f"{shelf_id}: committed")
        return f"{shelf_id} holds {amount}"


class Stock(ComputeService):
    """A service that changes another's data."""

    database: Database
    shelves: Shelves

    @command
    async def move(self, source: int, target: int, amount: int) -> None:
        """Two commands of another service in one transaction."""
        async with self.database.operation():
            await self.shelves.put(source, await self.shelves.amount(source) - amount)
            await self.shelves.put(target, await self.shelves.amount(target) + amount)

    @command
    async def clear(self, shelf_id: int) -> None:
        async with self.database.operation() as operation:
            row = await operation.session.get_one(ShelfRow, shelf_id)
            await operation.session.delete(row)
            self.shelves.amount.invalidate(shelf_id)

    @compute_method
    async def changing(self) -> str:
        """What must not be: a compute method that calls a command."""
        return await self.shelves.put(1, 1)


@asynccontextmanager
async def shelves_host(database_url: str, *, log: LogOptions = DEFAULT_LOG_OPTIONS) -> AsyncIterator[LocalHost]:
    """An app with these services on a database, hosted locally; its graph is checked at the end."""
    database = Database(database_url, log=log)
    await database.create_tables(Base.metadata)
    async with App("shelves", services=[Shelves, Stock], database=database).local() as host:
        yield host
        host.graph.validate()
    await database.dispose()


@asynccontextmanager
async def shelves_hosts(
    database_url: str, count: int = 2, *, log: LogOptions = DEFAULT_LOG_OPTIONS
) -> AsyncIterator[list[LocalHost]]:
    """Several such hosts on one database, as if each were a process of its own: they have only the log in common."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(shelves_host(database_url, log=log)) for _ in range(count)]
