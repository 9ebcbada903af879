"""Commands with results of all kinds, that tell how often their bodies have run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, LogOptions, command, compute_method
from fusion_cluster.commands import CommandResult
from fusion_cluster.database.database import DEFAULT_LOG_OPTIONS
from fusion_cluster.host import Host, LocalHost
from tests.apps.shelves import Gate


class Base(DeclarativeBase):
    pass


class CounterRow(Base):
    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]


class NoRoom(Exception):
    """An error of the app."""


class Unknown:
    """Of a type that cannot leave the process."""


class Counters(ComputeService):
    database: Database

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.gates: dict[str, Gate] = {}

    async def at(self, place: str) -> None:
        gate = self.gates.get(place)
        if gate is not None:
            await gate.pass_through()

    @compute_method
    async def count(self, name: str) -> int:
        async with self.database.session() as session:
            row = await session.get(CounterRow, name)
            return row.count if row else 0

    async def _add(self, name: str, count: int = 1, *, records: bool = False) -> int:
        """One operation."""
        async with self.database.operation() as operation:
            row = await operation.session.get(CounterRow, name)
            if row is None:
                row = CounterRow(name=name, count=0)
                operation.session.add(row)
            row.count += count
            self.count.invalidate(name)
            await operation.session.flush()
            await self.at("written")
            if records:
                operation.result(row.count)
        await self.at("committed")
        return row.count

    @command
    async def add(self, name: str, count: int = 1) -> None:
        self.runs.append("add")
        await self._add(name, count)

    @command
    async def bump(self, name: str) -> int:
        self.runs.append("bump")
        return await self._add(name)

    @command
    async def bump_and_record(self, name: str) -> int:
        self.runs.append("bump_and_record")
        return await self._add(name, records=True)

    @command
    async def bump_and_fail(self, name: str) -> int:
        self.runs.append("bump_and_fail")
        raise NoRoom(f"for {await self._add(name)}")

    @command
    async def bump_and_refuse(self, name: str) -> int:
        self.runs.append("bump_and_refuse")
        raise LookupError(f"after {await self._add(name, records=True)}")

    @command
    async def bump_to_something(self, name: str) -> object:
        self.runs.append("bump_to_something")
        await self._add(name)
        return Unknown()

    @command
    async def think(self, name: str) -> str:
        """Without an operation."""
        self.runs.append("think")
        return f"{name}, {len(self.runs)}"

    @command
    async def think_of_something(self, name: str) -> object:
        self.runs.append("think_of_something")
        return Unknown()

    @command
    async def insert(self, name: str) -> str:
        """Fails where there is such a row."""
        self.runs.append("insert")
        async with self.database.operation() as operation:
            operation.session.add(CounterRow(name=name, count=1))
            self.count.invalidate(name)
            await operation.session.flush()
            await self.at("written")
        return f"inserted {name}"

    @command
    async def reserve(self, name: str) -> str:
        """Has its own idea of what is wrong."""
        self.runs.append("reserve")
        async with self.database.operation() as operation:
            if await operation.session.get(CounterRow, name, with_for_update=True) is not None:
                raise NoRoom(f"{name} is taken")
            await self.at("looked")
            operation.session.add(CounterRow(name=name, count=1))
            self.count.invalidate(name)
        return f"reserved {name}"

    @command
    async def take(
        self, name: str, prices: dict[str, Decimal], tags: set[str], weights: list[float] | None = None
    ) -> None:
        self.runs.append("take")
        await self._add(name)


async def run(host: Host, method: str, *arguments: object, command_id: str) -> CommandResult:
    """Run a command of the counters under an id, with arguments that came from another process."""
    bound = host.command(f"Counters.{method}")
    codec = bound.signature.codec
    received = codec.decode_msgpack(codec.encode(bound.signature.bind(arguments, {})))
    return await host.carry_out(bound.invocation(received, command_id))


async def counts(database: Database) -> dict[str, int]:
    """What the database holds."""
    async with database.session() as session:
        return {row.name: row.count for row in await session.scalars(select(CounterRow))}


@asynccontextmanager
async def counters_hosts(
    database_url: str, count: int = 2, *, log: LogOptions = DEFAULT_LOG_OPTIONS
) -> AsyncIterator[list[LocalHost]]:
    """Hosts on one database, as if each were a process of its own."""
    async with AsyncExitStack() as stack:
        hosts = []
        for _ in range(count):
            database = Database(database_url, log=log)
            await database.create_tables(Base.metadata)
            app = App("counters", [Counters], database=database)
            hosts.append(await stack.enter_async_context(app.local(strict=False)))  # as processes of a cluster are
        yield hosts
