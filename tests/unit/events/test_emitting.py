"""What is emitted is written with the operation's commit, or not at all."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from fusion_cluster import App, ComputeService, Database, UsageError, command
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.commands.emitted_event import emitted
from fusion_cluster.commands.operation import Operation
from fusion_cluster.database.schema import OPERATIONS
from fusion_cluster.host import LocalHost
from tests.statements import statements
from tests.unit.events.orders import (
    Base,
    EntryRow,
    Ledger,
    OrderPlaced,
    Orders,
    OrderShipped,
    ProductChanged,
    Unheard,
)  # fmt: skip

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database


class Desk(ComputeService):
    """Emits in odd ways."""

    orders: Orders

    @command
    async def fail_after_emitting(self, order_id: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(OrderPlaced(order_id))
            raise LookupError("no")

    @command
    async def fail_to_commit(self, order_id: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(OrderPlaced(order_id))
            operation.session.add_all([EntryRow(id=1, order_id=1, number=1, what=""), self._entry()])

    @command
    async def place_by_another(self, order_id: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(OrderPlaced(order_id, 1))
            await self.orders.place(order_id, [2, 3])
            operation.emit(OrderPlaced(order_id, 4))

    @command
    async def change_of_mind(self, order_id: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(OrderPlaced(order_id, 1))
            try:
                async with self.database.operation() as inner:
                    inner.emit(OrderPlaced(order_id, 2))
                    raise LookupError("no")
            except LookupError:
                operation.emit(OrderPlaced(order_id, 3))

    @command
    async def tell_nobody(self, order_id: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(Unheard(order_id))

    @staticmethod
    def _entry() -> EntryRow:
        return EntryRow(id=1, order_id=2, number=2, what="")


@pytest.fixture
async def host(database: Database) -> AsyncIterator[LocalHost]:
    """A host that delivers nothing, so that everything stays in the outbox."""
    await database.create_tables(Base.metadata)
    host = LocalHost(App("orders", services=[Orders, Desk, Ledger], database=database))
    yield host
    await host.close()


async def numbers(database: Database) -> list[int]:
    return [stored.event["number"] for stored in await database.events.list()]


# -- what is no event --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("event", [None, 3, "placed", {"order_id": 3}, (1,), OrderPlaced, object()])
def test_what_is_no_record_is_no_event(event: object) -> None:
    with pytest.raises(UsageError) as raised:
        emitted(event)
    assert raised.value.field == "event"


def test_what_cannot_be_encoded_cannot_be_emitted() -> None:
    @dataclass
    class Odd:
        order_id: int
        what: object

    with pytest.raises(UsageError, match="cannot leave the process"):
        emitted(Odd(1, object()))


@pytest.mark.parametrize("delay_s", [-1, math.inf, math.nan, "soon", None])
def test_a_delay_is_a_number_of_seconds(delay_s: Any) -> None:
    with pytest.raises(UsageError) as raised:
        emitted(OrderPlaced(1), delay_s=delay_s)
    assert raised.value.field == "delay_s"


@pytest.mark.parametrize("key", ["x" * 1_000, object()])
def test_a_key_is_short_and_can_be_encoded(key: object) -> None:
    with pytest.raises(UsageError) as raised:
        emitted(OrderPlaced(1), key=key)
    assert raised.value.field == "key"


# -- keys --------------------------------------------------------------------------------------------------------------
def test_by_default_events_whose_first_fields_are_equal_have_one_key() -> None:
    key = emitted(OrderPlaced(3, 1)).key
    assert emitted(OrderPlaced(3, 2)).key == emitted(OrderShipped(3, 9)).key == key
    assert emitted(OrderPlaced(4)).key != key
    assert emitted(ProductChanged(3)).key != key, "product 3 has nothing to do with order 3"
    assert emitted(Unheard(1), key=("order_id", 3)).key == key, "what the default is can be said"


def test_keys_are_equal_as_values_are() -> None:
    assert emitted(OrderPlaced(1), key=Decimal("1.20")).key == emitted(OrderPlaced(1), key=Decimal("1.2")).key
    assert emitted(OrderPlaced(1), key={"b", "a"}).key == emitted(OrderPlaced(2), key={"a", "b"}).key
    assert emitted(OrderPlaced(1), key=1).key != emitted(OrderPlaced(1), key="1").key


def test_an_event_without_fields_has_its_type_for_a_key() -> None:
    class Opened(msgspec.Struct):
        pass

    @dataclass
    class Closed:
        pass

    assert emitted(Opened()).key == emitted(Opened()).key != emitted(Closed()).key


def test_events_of_one_key_have_one_slot() -> None:
    slots = [emitted(OrderPlaced(order_id)).slot for order_id in range(200)]
    assert slots == [emitted(OrderShipped(order_id)).slot for order_id in range(200)]
    assert len(set(slots)) > 190
    assert all(0 <= slot < SLOT_COUNT for slot in slots)


def test_what_becomes_of_an_event_later_is_not_emitted() -> None:
    @dataclass
    class Open:
        order_id: int
        lines: list[str] = field(default_factory=list)

    event = Open(1, ["nut"])
    payload = emitted(event).payload
    event.lines.append("bolt")
    assert msgspec.msgpack.decode(payload) == {"order_id": 1, "lines": ["nut"]}


# -- all or nothing ----------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_what_is_emitted_waits_in_the_outbox_after_the_commit(host: LocalHost, database: Database) -> None:
    await host.service(Orders).place(7, [1, 2])
    await host.service(Orders).ship(7, 3)
    first, second, third = await database.events.list()
    assert (first.type, first.key, first.event) == ("OrderPlaced", ["order_id", 7], {"order_id": 7, "number": 1})
    assert (third.type, third.key) == ("OrderShipped", ["order_id", 7])
    assert first.position < second.position < third.position
    assert len({stored.event_id for stored in (first, second, third)}) == 3
    assert (first.attempts, first.remaining, first.error, first.is_claimed) == (0, None, None, False)
    assert first.emitted_at == first.due_at


async def test_a_command_that_is_rolled_back_emits_nothing(host: LocalHost, database: Database) -> None:
    with pytest.raises(LookupError):
        await host.service(Desk).fail_after_emitting(1)
    with pytest.raises(IntegrityError):
        await host.service(Desk).fail_to_commit(1)
    assert await database.events.list() == []


async def test_commands_called_by_a_command_emit_with_its_commit_in_order(host: LocalHost, database: Database) -> None:
    await host.service(Desk).place_by_another(1)
    assert await numbers(database) == [1, 2, 3, 4]


@pytest.mark.both_databases
async def test_what_a_savepoint_emits_is_dropped_with_it(host: LocalHost, database: Database) -> None:
    await host.service(Desk).change_of_mind(1)
    assert await numbers(database) == [1, 3]


async def test_a_retry_of_a_command_emits_nothing_again(host: LocalHost, database: Database) -> None:
    place = host.service(Orders).place.function
    for _ in range(3):
        await host.execute(place.invocation((1, [1], 0.0), "the same id"))
    assert await numbers(database) == [1]


async def test_a_script_emits_in_an_operation_of_its_own(host: LocalHost, database: Database) -> None:
    async with database.operation() as operation:
        operation.emit(OrderPlaced(1, 5))
        assert [event.type for event in operation.events] == ["OrderPlaced"]
    assert await numbers(database) == [5]
    async with database.session() as session:
        logged = await session.scalar(select(func.count()).where(OPERATIONS.c.operation_id == operation.id))
    assert logged == 1, "a commit in doubt could not be settled"


async def test_nothing_is_emitted_before_or_after_the_block(host: LocalHost, database: Database) -> None:
    async with database.operation() as operation:
        pass
    with pytest.raises(UsageError, match="block"):
        operation.emit(OrderPlaced(1))


async def test_nothing_is_emitted_while_the_operation_commits(
    host: LocalHost, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[UsageError] = []
    write = database.events.write

    async def emit_and_write(operation: Operation) -> None:
        try:
            operation.emit(OrderPlaced(1, 2))
        except UsageError as error:
            refused.append(error)
        await write(operation)

    monkeypatch.setattr(database.events, "write", emit_and_write)
    await host.service(Orders).place(1, [1])
    assert len(refused) == 1
    assert await numbers(database) == [1]


async def test_what_nobody_in_the_app_handles_is_not_stored_and_that_is_said_once(
    host: LocalHost, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await host.service(Desk).tell_nobody(1)
        await host.service(Desk).tell_nobody(2)
    assert [record.message for record in caplog.records] == ["no handler for Unheard: such events are dropped"]
    assert await database.events.list() == []


async def test_a_script_that_knows_of_no_app_stores_what_it_emits(database: Database) -> None:
    async with database.operation() as operation:
        operation.emit(Unheard(1))
    assert [stored.type for stored in await database.events.list()] == ["Unheard"]


@pytest.mark.both_databases
async def test_all_events_of_an_operation_are_one_statement_and_none_is_no_statement(
    host: LocalHost, database: Database
) -> None:
    await host.service(Orders).place(1, [])
    with statements() as sent:
        await host.service(Orders).place(1, list(range(500)))
        await host.service(Orders).place(1, [])
    assert len([one for one in sent if "fusion_events" in one.text]) == 1
    assert [stored.event["number"] for stored in await database.events.list(limit=1_000)] == list(range(500))
