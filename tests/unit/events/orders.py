"""Services for the tests of events: orders that emit them, and a ledger that handles them and notes what it did."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, EventOptions, command, compute_method, event_handler
from fusion_cluster.database.event_store import EventState
from fusion_cluster.host import LocalHost
from tests.waiting import until_so

logging.getLogger("fusion_cluster.events").setLevel(logging.CRITICAL)


class Base(DeclarativeBase):
    pass


class EntryRow(Base):
    """One effect of a handler."""

    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]
    number: Mapped[int]
    what: Mapped[str]


@dataclass(frozen=True)
class OrderPlaced:
    order_id: int
    number: int = 0


class OrderShipped(msgspec.Struct):
    order_id: int
    number: int = 0


@dataclass(frozen=True)
class ProductChanged:
    product_id: int
    number: int = 0


@dataclass(frozen=True)
class Unheard:
    order_id: int


Event = OrderPlaced | OrderShipped | ProductChanged


class Orders(ComputeService):
    """Emits events."""

    @command
    async def place(self, order_id: int, numbers: list[int], delay_s: float = 0.0) -> None:
        async with self.database.operation() as operation:
            for number in numbers:
                operation.emit(OrderPlaced(order_id, number), delay_s=delay_s)

    @command
    async def ship(self, order_id: int, number: int = 0) -> None:
        async with self.database.operation() as operation:
            operation.emit(OrderShipped(order_id, number))

    @command
    async def change_product(self, product_id: int, number: int = 0) -> None:
        async with self.database.operation() as operation:
            operation.emit(ProductChanged(product_id, number))


class Ledger(ComputeService):
    """Handles events.

    Attributes:
        calls: the events that it was called with, and has not refused.
        before: awaited before anything is written; may raise.
        after: awaited when it is committed.
        running: how many handlers run now, by order.
    """

    def __init__(self) -> None:
        self.calls: list[Event] = []
        self.before: Callable[[Event], Awaitable[None]] | None = None
        self.after: Callable[[Event], Awaitable[None]] | None = None
        self.running: dict[int, int] = {}

    @compute_method
    async def entries(self, order_id: int) -> list[int]:
        async with self.database.session() as session:
            rows = await session.scalars(
                select(EntryRow.number).where(EntryRow.order_id == order_id).order_by(EntryRow.id)
            )
            return list(rows)

    @event_handler
    async def on_order(self, event: OrderPlaced | OrderShipped) -> None:
        await self._note(event, event.order_id, type(event).__name__)

    @event_handler
    async def on_product(self, event: ProductChanged) -> None:
        await self._note(event, event.product_id, "ProductChanged")

    async def _note(self, event: Event, about: int, what: str) -> None:
        self.running[about] = self.running.get(about, 0) + 1
        assert self.running[about] == 1
        try:
            if self.before is not None:
                await self.before(event)
            self.calls.append(event)
            async with self.database.operation() as operation:
                operation.session.add(EntryRow(order_id=about, number=event.number, what=what))
                self.entries.invalidate(about)
            if self.after is not None:
                await self.after(event)
        finally:
            self.running[about] -= 1


def quick(**changes: object) -> EventOptions:
    """Options under which what fails is tried again at once, three times."""
    options = {"backoff": lambda failed: 0.0, "max_attempts": 3, "poll_period_s": 0.2, **changes}
    return EventOptions(**options)  # type: ignore[arg-type]


@asynccontextmanager
async def orders_host(database: Database, options: EventOptions | None = None) -> AsyncIterator[LocalHost]:
    """An app with these services, hosted locally."""
    await database.create_tables(Base.metadata)
    async with App("orders", services=[Orders, Ledger], database=database, events=options or quick()).local() as host:
        yield host


async def entries(database: Database, order_id: int | None = None) -> list[int]:
    """The numbers that have been noted, in order."""
    chosen = select(EntryRow.number).order_by(EntryRow.id)
    async with database.session() as session:
        return list(await session.scalars(chosen if order_id is None else chosen.where(EntryRow.order_id == order_id)))


async def until_delivered(database: Database, timeout_s: float = 10.0) -> None:
    """Return when nothing waits for delivery any more."""

    async def is_done() -> bool:
        return not await database.events.list(state=EventState.WAITING)

    await until_so(is_done, timeout_s=timeout_s, what="the delivery of all events")
