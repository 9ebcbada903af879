"""An app whose handlers write down where and for whom they ran: what tests run on a real Ray cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, Call, ComputeService, Database, Next, command, compute_method, event_handler, principal
from fusion_cluster.middleware import Authorization, signed_in

DATABASE_VARIABLE = "FUSION_TEST_HERALDS"


class Base(DeclarativeBase):
    pass


class NoteRow(Base):
    __tablename__ = "notes"
    number: Mapped[int] = mapped_column(primary_key=True)
    principal: Mapped[str]
    traceparent: Mapped[str]
    pids: Mapped[str]


@dataclass(frozen=True)
class Announced:
    number: int
    pid: int


traceparents: dict[int, str] = {}


async def note_trace(call: Call, next: Next) -> Any:
    """Keep the trace that came along with an event."""
    if call.kind == "event":
        traceparents[call.argument("event").number] = call.baggage.get("traceparent", "")
    return await next(call)


class Heralds(ComputeService):
    @command
    async def announce(self, number: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(Announced(number, os.getpid()))

    @event_handler
    async def on_announced(self, event: Announced) -> None:
        await self.note(event.number, event.pid)

    @command
    async def note(self, number: int, pid: int) -> None:
        async with self.database.operation() as operation:
            who, pids = msgspec.json.encode(principal()).decode(), f"{pid} {os.getpid()}"
            operation.session.add(NoteRow(number=number, principal=who, traceparent=traceparents[number], pids=pids))
            self.notes.invalidate()

    @compute_method
    async def notes(self) -> list[list[str]]:
        """The principals, traces and processes of emitter and handler, by number."""
        async with self.database.session() as session:
            rows = await session.scalars(select(NoteRow).order_by(NoteRow.number))
            return [[row.principal, row.traceparent, row.pids] for row in rows]


def heralds_app(url: str) -> App:
    """The app on a database."""
    rules = Authorization({"*": signed_in})
    return App("heralds", services=[Heralds], database=Database(url), middleware=[note_trace, rules])


app = heralds_app(os.environ.get(DATABASE_VARIABLE, "sqlite:///heralds.db"))
