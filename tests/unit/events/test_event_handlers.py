"""What an event handler is, and who may call it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, assert_type

import msgspec
import pydantic
import pytest

from fusion_cluster import App, ComputeService, Database, UnknownMethod, UsageError, command, event_handler
from fusion_cluster.events import BoundEventHandler, EventHandler
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway.descriptions import describe
from tests.invocations import a_command
from tests.unit.events.orders import Ledger, OrderPlaced, Orders, OrderShipped, Unheard


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/orders.db")


class Model(pydantic.BaseModel):
    order_id: int


def service_with(body: Any) -> type[ComputeService]:
    return type("Listener", (ComputeService,), {"on_event": event_handler(body)})


# -- what is none, told when the class is made -------------------------------------------------------------------------
def not_async(self: Any, event: OrderPlaced) -> None: ...


async def no_event(self: Any) -> None: ...


async def two_events(self: Any, event: OrderPlaced, other: OrderPlaced) -> None: ...


async def by_name_only(self: Any, *, event: OrderPlaced) -> None: ...


async def many(self: Any, *events: OrderPlaced) -> None: ...


async def no_hint(self: Any, event) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("body", [not_async, no_event, two_events, by_name_only, many, no_hint])
def test_a_method_that_does_not_take_one_event_is_refused_at_once(body: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=body.__name__):
        event_handler(body)


# -- what is none, told when an app is made ----------------------------------------------------------------------------
@dataclass
class Unsendable:
    """Its field cannot be decoded: both have the same fields."""

    what: OrderPlaced | Twin


@dataclass
class Twin:
    order_id: int
    number: int


async def on_number(self: Any, event: int) -> None: ...


async def on_anything(self: Any, event: Any) -> None: ...


async def on_event_or_nothing(self: Any, event: OrderPlaced | None) -> None: ...


async def on_unsendable(self: Any, event: Unsendable) -> None: ...


async def on_nowhere(self: Any, event: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("body", [on_number, on_anything, on_event_or_nothing, on_unsendable, on_nowhere])
def test_a_hint_that_names_no_class_of_events_is_refused_by_the_app(
    body: Callable[..., Any], database: Database
) -> None:
    with pytest.raises(UsageError):
        App("shop", services=[service_with(body)], database=database)


def test_two_classes_of_one_name_cannot_be_told_apart(database: Database) -> None:
    other = dataclasses.make_dataclass("OrderPlaced", [("order_id", int)])

    async def on_other(self: Any, event: OrderPlaced) -> None: ...

    on_other.__annotations__["event"] = other
    with pytest.raises(UsageError, match="same name"):
        App("shop", services=[Ledger, service_with(on_other)], database=database)


def test_event_handlers_need_a_database() -> None:
    with pytest.raises(UsageError) as raised:
        App("shop", services=[Ledger])
    assert raised.value.field == "database"


# -- what is one -------------------------------------------------------------------------------------------------------
class Listener(ComputeService):
    @event_handler
    async def on_record(self, event: OrderPlaced) -> None: ...

    @event_handler(barrier=False)
    async def on_struct(self, event: OrderShipped) -> None: ...

    @event_handler
    async def on_model(self, event: Annotated[Model, "a note"]) -> None: ...

    @event_handler
    async def on_any_of_them(self, event: OrderPlaced | OrderShipped | Model) -> None: ...

    @event_handler
    async def on_a_later_one(self, event: Later) -> None: ...


class Later(msgspec.Struct):
    order_id: int


def test_an_app_knows_the_events_of_its_handlers(database: Database) -> None:
    app = App("shop", services=[Listener], database=database)
    assert app.event_classes == {
        "OrderPlaced": OrderPlaced, "OrderShipped": OrderShipped, "Model": Model, "Later": Later,
    }  # fmt: skip


def test_types_are_kept() -> None:
    assert_type(Listener.on_record, EventHandler[OrderPlaced])
    assert_type(Listener().on_record, BoundEventHandler)


# -- who may call one --------------------------------------------------------------------------------------------------
async def test_nobody_calls_a_handler_by_hand(database: Database) -> None:
    async with App("shop", services=[Orders, Ledger], database=database).local() as host:
        with pytest.raises(UsageError, match="emit"):
            host.service(Ledger).on_order(OrderPlaced(1))
    with pytest.raises(UsageError, match="hosted"):
        Ledger().on_order(OrderPlaced(1))


async def test_another_command_does_not_call_a_handler_either(database: Database) -> None:
    class Impatient(ComputeService):
        ledger: Ledger

        @command
        async def skip_the_outbox(self, order_id: int) -> None:
            self.ledger.on_order(OrderPlaced(order_id))

    async with App("shop", services=[Impatient, Ledger], database=database).local() as host:
        with pytest.raises(UsageError, match="emit"):
            await host.service(Impatient).skip_the_outbox(1)


async def test_clients_neither_see_nor_reach_a_handler(database: Database) -> None:
    app = App("shop", services=[Orders, Ledger], database=database)
    assert set(app.methods) == {"Orders.place", "Orders.ship", "Orders.change_product", "Ledger.entries"}
    described = {method.name for service in describe(app).services for method in service.methods}
    assert "on_order" not in described
    with pytest.raises(UnknownMethod):
        app.method("Ledger", "on_order")
    async with LocalCluster(app, shards=1) as cluster:
        peer = cluster.host.links.peer(0)
        assert peer is not None
        result = await peer.execute(
            a_command("Ledger.on_order", command_id="c1", timeout_s=5), b"\x91\x81\xa8order_id\x01"
        )
        assert result.error.type.endswith("UnknownMethod"), result


def test_an_event_that_nobody_handles_is_no_event_of_the_app(database: Database) -> None:
    app = App("shop", services=[Ledger], database=database)
    assert Unheard.__name__ not in app.event_classes
