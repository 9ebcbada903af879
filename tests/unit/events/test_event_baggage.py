"""An event carries the trace, the principal and what users add from its emitter to its handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from sqlalchemy import update

from fusion_cluster import (
    App,
    Call,
    ComputeService,
    Database,
    InvalidArgument,
    Middleware,
    Next,
    UsageError,
    command,
    compute_method,
    event_handler,
    principal,
)
from fusion_cluster.commands.emitted_event import emitted
from fusion_cluster.database.event_store import EventState
from fusion_cluster.database.schema import EVENTS
from fusion_cluster.host import LocalHost
from fusion_cluster.middleware import Authorization, Tracing, acting_as, carrying, signed_in
from fusion_cluster.runtime.baggage import MAX_CALL_BYTES
from fusion_cluster.testing import LocalCluster
from tests.unit.events.orders import Base, OrderPlaced, Orders, OrderShipped, quick, until_delivered
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANN = {"name": "Ann", "roles": ["baker"]}


class Parcels(ComputeService):
    """Notes for whom it handles events, and emits one for each.

    Attributes:
        handled: the orders and the principals, by call.
        failures: how many calls still fail.
        hangs: calls do not end.
    """

    def __init__(self) -> None:
        self.handled: list[tuple[str, int, Any]] = []
        self.failures = 0
        self.hangs = False

    @event_handler
    async def on_placed(self, event: OrderPlaced) -> None:
        self.handled.append(("placed", event.order_id, principal()))
        if self.hangs:
            await asyncio.Event().wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the post office is closed")
        await self.pack(event.order_id)

    @event_handler
    async def on_shipped(self, event: OrderShipped) -> None:
        self.handled.append(("shipped", event.order_id, principal()))

    @command
    async def pack(self, order_id: int) -> None:
        async with self.database.operation() as operation:
            operation.emit(OrderShipped(order_id))


class Witness:
    """Middleware that notes the baggage of each call."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, call: Call, next: Next) -> Any:
        self.seen.append((call.name, dict(call.baggage)))
        return await next(call)

    def of(self, name: str) -> list[dict[str, str]]:
        return [baggage for seen, baggage in self.seen if seen == name]


def parcels_app(database: Database, *middleware: Middleware) -> App:
    return App("parcels", services=[Orders, Parcels], database=database, events=quick(), middleware=middleware)


@asynccontextmanager
async def parcels_host(database: Database, *middleware: Middleware) -> AsyncIterator[LocalHost]:
    await database.create_tables(Base.metadata)
    async with parcels_app(database, *middleware).local() as host:
        yield host


@pytest.mark.both_databases
async def test_handlers_run_for_the_emitters_principal_and_so_does_what_follows(database: Database) -> None:
    witness = Witness()
    rules = Authorization({"*": signed_in})
    async with parcels_host(database, witness, rules) as host:
        with acting_as(ANN), carrying(tenant="blue", traceparent=TRACEPARENT):
            await host.service(Orders).place(1, [7])
        await until_delivered(database)
        assert host.service(Parcels).handled == [("placed", 1, ANN), ("shipped", 1, ANN)]
    carried = {"tenant": "blue", "traceparent": TRACEPARENT}
    for name in ("Orders.place", "Parcels.on_placed", "Parcels.pack", "Parcels.on_shipped"):
        assert witness.of(name) == [carried], name


async def test_handlers_on_other_shards_run_for_the_emitters_principal(database: Database) -> None:
    await database.create_tables(Base.metadata)
    witness = Witness()
    async with LocalCluster(parcels_app(database, witness), shards=3) as cluster:
        for order_id in range(12):
            with acting_as(f"user {order_id}"), carrying(tenant=f"tenant {order_id}"):
                await cluster.service(Orders).place(order_id, [0])
        await until_delivered(database)
        handled = {shard_id: shard.host.service(Parcels).handled for shard_id, shard in cluster.shards.items()}
    assert all(handled.values()), "each shard has delivered some"
    expected = [
        (kind, order_id, f"user {order_id}") for kind in ("placed", "shipped") for order_id in range(12)
    ]  # fmt: skip
    assert sorted(one for shard in handled.values() for one in shard) == expected
    tenants = [{"tenant": f"tenant {order_id}"} for order_id in range(12)]
    assert sorted(witness.of("Parcels.on_placed"), key=str) == sorted(tenants, key=str)


async def test_each_attempt_has_the_baggage_again(database: Database) -> None:
    witness = Witness()
    async with parcels_host(database, witness) as host:
        parcels = host.service(Parcels)
        parcels.failures = 3  # as often as is allowed: it is a dead letter then
        with acting_as(ANN), carrying(tenant="blue"):
            await host.service(Orders).place(1, [7])
        await until(lambda: not parcels.failures)
        await until_delivered(database)
        assert await database.events.retry_dead() == 1
        await until_delivered(database)
        assert parcels.handled == [("placed", 1, ANN)] * 4 + [("shipped", 1, ANN)]
    assert witness.of("Parcels.on_placed") == [{"tenant": "blue"}] * 4


async def test_a_shard_that_is_back_delivers_with_the_baggage(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with LocalCluster(parcels_app(database), shards=2, read_lease_s=0.2) as cluster:
        owner = cluster.slot_map.owners[emitted(OrderPlaced(1)).slot]
        parcels = cluster.shards[owner].host.service(Parcels)
        parcels.hangs = True
        with acting_as(ANN):
            await cluster.service(Orders).place(1, [7])
        await until(lambda: parcels.handled)
        await cluster.kill_shard(owner)
        await cluster.start_shard(owner)
        await until_delivered(database)
        handled = [one for shard in cluster.shards.values() for one in shard.host.service(Parcels).handled]
        assert handled == [("placed", 1, ANN), ("shipped", 1, ANN)]


async def test_what_a_handler_reads_is_the_emitters_own(database: Database) -> None:
    """A method that varies has a result for each principal: a handler is given neither another's nor nobody's."""

    class Greetings(ComputeService):
        def __init__(self) -> None:
            self.read: list[str] = []

        @compute_method
        async def greeting(self) -> str:
            return f"hello, {principal()}"

        @event_handler
        async def on_shipped(self, event: OrderShipped) -> None:
            self.read.append(await self.greeting())

    app = App("greetings", services=[Orders, Greetings], database=database, events=quick())
    async with LocalCluster(app, shards=2) as cluster:
        orders, greetings = cluster.service(Orders), cluster.service(Greetings)
        assert await greetings.greeting() == "hello, None"
        for name in ("ann", "bob"):
            with acting_as(name):
                await orders.ship(1)
        await orders.ship(1)
        await until_delivered(database)
        read = [one for shard in cluster.shards.values() for one in shard.host.service(Greetings).read]
    assert read == ["hello, ann", "hello, bob", "hello, None"]


async def test_an_event_without_baggage_behind_one_with_it_is_nobodys(database: Database) -> None:
    """They are delivered by one task, one after the other."""
    async with parcels_host(database) as host:
        async with database.operation() as operation:
            with acting_as(ANN):
                operation.emit(OrderShipped(1))
            operation.emit(OrderShipped(1))
            with acting_as("bob"):
                operation.emit(OrderShipped(1))
        await until_delivered(database)
        assert [one for _, _, one in host.service(Parcels).handled] == [ANN, None, "bob"]


async def test_a_handlers_span_is_beneath_that_of_the_command(database: Database) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # The span around the host's start is not that of what its dispatcher does.
    with provider.get_tracer("tests").start_as_current_span("start"):
        async with parcels_host(database, Tracing(tracer_provider=provider)) as host:
            parcels = host.service(Parcels)
            parcels.failures = 1
            with provider.get_tracer("tests").start_as_current_span("request"):
                await host.service(Orders).place(1, [7])
            await until_delivered(database)
    spans: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    provider.shutdown()
    parents = {
        "Orders.place": "request",
        "Parcels.on_placed": "Orders.place",
        "Parcels.pack": "Parcels.on_placed",
        "Parcels.on_shipped": "Parcels.pack",
    }
    ids = {name: {span.get_span_context().span_id for span in found} for name, found in spans.items()}  # type: ignore[union-attr]
    for name, parent in parents.items():
        for span in spans[name]:
            assert span.parent is not None, name
            assert span.parent.span_id in ids[parent], name
            assert (span.kind is SpanKind.CONSUMER) == (".on_" in name)
    assert len(spans["Parcels.on_placed"]) == 2, "both attempts"


async def test_what_cannot_be_carried_fails_the_command_and_nothing_is_emitted(database: Database) -> None:
    class User:
        pass

    async with parcels_host(database) as host:
        orders = host.service(Orders)
        with acting_as(User()), pytest.raises(UsageError, match="of an event, must be text or JSON data, not a User"):
            await orders.place(1, [7])
        with acting_as("x" * MAX_CALL_BYTES), pytest.raises(InvalidArgument, match="are allowed"):
            await orders.place(1, [7])
        await until_delivered(database)
        assert host.service(Parcels).handled == []


@pytest.mark.parametrize("baggage", ["{", "[]", '{"tenant": 3}', '{"principal": "{"}'])
async def test_baggage_that_cannot_be_read_fails_its_event_alone(database: Database, baggage: str) -> None:
    await database.create_tables(Base.metadata)
    async with database.operation() as operation:
        operation.emit(OrderShipped(1))
        operation.emit(OrderShipped(2))
    first = (await database.events.list())[0]
    async with database.operation() as operation:
        changed = update(EVENTS).where(EVENTS.c.event_id == first.event_id).values(baggage=baggage)
        await operation.session.execute(changed)
    async with parcels_app(database).local() as host:
        await until_delivered(database)
        assert host.service(Parcels).handled == [("shipped", 2, None)]
        (dead,) = await database.events.list(state=EventState.DEAD)
        assert dead.event_id == first.event_id
        assert "baggage" in str(dead.error) or "principal" in str(dead.error)
