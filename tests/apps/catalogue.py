"""Tables with keys of all kinds, for tests that look rows up."""

from __future__ import annotations

import uuid
from datetime import date

from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fusion_cluster import Database


class Base(DeclarativeBase):
    pass


class ProductRow(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    pieces: Mapped[list[PieceRow]] = relationship(lazy="joined", order_by="PieceRow.id")


class PieceRow(Base):
    __tablename__ = "pieces"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)


class OrderRow(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int | None] = mapped_column(index=True)
    amount: Mapped[int]


class StayRow(Base):
    """A key of several columns, of several types."""

    __tablename__ = "stays"
    guest: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    night: Mapped[date] = mapped_column(primary_key=True)
    room: Mapped[str]


class ShortKeyRow(Base):
    """A key that PostgreSQL cannot hold if it is large."""

    __tablename__ = "short_keys"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)


tables = MetaData()
airports = Table(
    "airports", tables, Column("code", String, primary_key=True), Column("name", String), Column("country", String)
)
keyless = Table("keyless", tables, Column("number", Integer), Column("text", String))

ANN, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


def night(day: int) -> date:
    """A night in March."""
    return date(2026, 3, day)


async def fill(database: Database) -> None:
    """Create the tables, and some rows in each."""
    await database.create_tables([Base.metadata, tables])
    async with database.operation() as operation:
        session = operation.session
        session.add_all(ProductRow(id=number, sku=f"s{number}", name=f"product {number}") for number in range(1, 11))
        await session.flush()
        session.add_all(PieceRow(id=number, product_id=number % 3 + 1) for number in range(1, 7))
        session.add_all(OrderRow(id=number, customer_id=number % 3, amount=-number) for number in range(1, 10))
        session.add(OrderRow(id=10, customer_id=None, amount=0))
        session.add_all(StayRow(guest=BOB, night=night(day), room=f"b{day}") for day in (4, 3, 2))
        session.add_all(StayRow(guest=ANN, night=night(day), room=f"a{day}") for day in (3, 2, 1))
        for code, name, country in (("JFK", "Kennedy", "US"), ("EWR", "Newark", "US"), ("FRA", "Frankfurt", "DE")):
            await session.execute(airports.insert().values(code=code, name=name, country=country))
