"""A service whose command must not run twice: what is paid in adds up."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, command, compute_method


class Base(DeclarativeBase):
    pass


class TillRow(Base):
    __tablename__ = "tills"
    name: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int]


class Gates:
    """Where a test lets a payment wait, in each run of it: after its commit."""

    def __init__(self) -> None:
        self.runs = 0
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


gates = Gates()


class Tills(ComputeService):
    @compute_method
    async def amount(self, name: str) -> int:
        async with self.database.session() as session:
            row = await session.get(TillRow, name)
            return row.amount if row else 0

    @command
    async def pay_in(self, name: str, amount: int) -> int:
        """Pay in; gives what is in the till then."""
        gates.runs += 1
        async with self.database.operation() as operation:
            row = await operation.session.get(TillRow, name)
            if row is None:
                row = TillRow(name=name, amount=0)
                operation.session.add(row)
            row.amount += amount
            self.amount.invalidate(name)
            operation.result(row.amount)
        gates.reached.set()
        await gates.opened.wait()
        return row.amount


class Jars(ComputeService):
    """The same without a database."""

    def __init__(self) -> None:
        self.coins = 0

    @command
    async def drop(self, coins: int) -> int:
        gates.runs += 1
        self.coins += coins
        gates.reached.set()
        await gates.opened.wait()
        return self.coins


def fresh_gates() -> Gates:
    gates.__init__()  # type: ignore[misc]
    return gates


def tills_app(url: str) -> App:
    return App("tills", [Tills], database=Database(url))


def jars_app() -> App:
    return App("jars", [Jars])
