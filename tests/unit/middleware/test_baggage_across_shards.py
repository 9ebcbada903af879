"""Baggage travels with reads and commands over links: the trace, the principal of commands, what users add."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from fusion_cluster import App, Call, InvalidArgument, Next, PermissionDenied, UsageError
from fusion_cluster.middleware import (
    Authorization,
    Tracing,
    acting_as,
    anybody,
    carrying,
    current_principal,
    signed_in,
)
from fusion_cluster.runtime.baggage import (
    MAX_BYTES,
    MAX_CALL_BYTES,
    MAX_CALL_ENTRIES,
    MAX_ENTRIES,
    arrive,
    check_baggage,
    current_baggage,
)
from fusion_cluster.testing import LocalCluster
from tests.unit.middleware.bakery import Bakery

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Witness:
    """Middleware that writes down on whose behalf bodies run, and with what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, dict[str, str]]] = []

    async def __call__(self, call: Call, next: Next) -> Any:
        self.seen.append((call.name, current_principal.get(), dict(call.baggage)))
        return await next(call)

    def of(self, name: str) -> list[tuple[Any, dict[str, str]]]:
        return [(principal, baggage) for seen, principal, baggage in self.seen if seen == name]


def app_with(*middleware: Any) -> App:
    return App("bakery", services=[Bakery], middleware=middleware)


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


async def test_what_is_carried_comes_along_with_commands_and_with_the_reads_beneath_a_read() -> None:
    witness = Witness()
    async with LocalCluster(app_with(witness), shards=3) as cluster:
        bakery = cluster.service(Bakery)
        with carrying(tenant="blue", traceparent=TRACEPARENT):
            assert await bakery.total("roll") == 2
            await bakery.set_price("roll", 3)
        assert await bakery.price("cake") is not None
    expected = {"tenant": "blue", "traceparent": TRACEPARENT}
    for name in ("Bakery.total", "Bakery.set_price"):
        assert witness.of(name) == [(None, expected)]
    assert [baggage for _, baggage in witness.of("Bakery.price")] == [expected, {}]


async def test_a_shared_computation_has_the_baggage_of_the_first_caller() -> None:
    witness = Witness()
    async with LocalCluster(app_with(witness), shards=2) as cluster:
        bakery = cluster.service(Bakery)
        with carrying(tenant="blue"):
            first = bakery.price("roll")
            await first
        with carrying(tenant="red"):
            assert await bakery.price("roll") == await first
    assert witness.of("Bakery.price") == [(None, {"tenant": "blue"})]


async def test_a_span_here_is_the_parent_of_the_span_on_the_owner() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with LocalCluster(app_with(Tracing(tracer_provider=provider)), shards=3) as cluster:
        bakery = cluster.service(Bakery)
        with provider.get_tracer("tests").start_as_current_span("request") as request:
            await bakery.total("roll")
            await bakery.set_price("roll", 3)
        await bakery.total("cake")
    spans = {(span.name, number): span for number, span in enumerate(exporter.get_finished_spans())}
    of = {name: [span for (found, _), span in spans.items() if found == name] for name, _ in spans}
    root = request.get_span_context()
    total, later_total = of["Bakery.total"]
    (command,) = of["Bakery.set_price"]
    assert total.parent is not None
    assert total.parent.span_id == root.span_id
    assert command.parent is not None
    assert command.parent.span_id == root.span_id
    price = of["Bakery.price"][0]
    assert price.parent is not None
    assert price.parent.span_id == context_of(total).span_id
    assert {context_of(span).trace_id for span in (total, command, price)} == {root.trace_id}
    assert later_total.parent is None, "it is in nobody's trace"
    provider.shutdown()


async def test_the_principal_of_a_command_goes_where_the_command_goes_and_no_further() -> None:
    witness = Witness()
    rules = Authorization({"Bakery.order": signed_in, "*": anybody})
    async with LocalCluster(app_with(witness, rules), shards=3) as cluster:
        bakery = cluster.service(Bakery)
        with acting_as({"name": "Ann", "roles": ["baker"]}):
            assert await bakery.order("roll") is not None
            await bakery.price("cake")
        with pytest.raises(PermissionDenied):
            await bakery.order("roll")
    ann = {"name": "Ann", "roles": ["baker"]}
    assert [principal for principal, _ in witness.of("Bakery.order")] == [ann, None]
    assert [principal for principal, _ in witness.of("Bakery.price") if principal is not None] == []


async def test_a_principal_that_would_arrive_as_something_else_is_refused() -> None:
    class User:
        role = "baker"

    async with LocalCluster(app_with(), shards=2) as cluster:
        with acting_as(User()), pytest.raises(UsageError, match="text or JSON data, not a User"):
            await cluster.service(Bakery).set_price("roll", 3)


async def test_why_names_the_principal_and_the_trace_of_the_command() -> None:
    async with LocalCluster(app_with(), shards=2) as cluster:
        bakery = cluster.service(Bakery)
        await bakery.price("roll")
        with acting_as("ann"), carrying(traceparent=TRACEPARENT):
            await bakery.set_price("roll", 3)
        explanation = cluster.owner("Bakery.price", "roll").host.why("Bakery.price", "roll")
        assert "for 'ann'" in str(explanation)
        assert f"trace {TRACEPARENT}" in str(explanation)


def test_from_a_client_nothing_but_the_trace_is_taken() -> None:
    arrive({"principal": '"root"', "tenant": "blue", "traceparent": TRACEPARENT}, is_trusted=False)
    assert current_baggage.get() == {"traceparent": TRACEPARENT}
    assert current_principal.get() is None
    arrive({"principal": '"ann"', "tenant": "blue"}, is_trusted=True)
    assert current_baggage.get() == {"tenant": "blue"}
    assert current_principal.get() == "ann"
    arrive({}, is_trusted=True)
    assert (current_baggage.get(), current_principal.get()) == ({}, None)


def test_bad_baggage_is_refused_with_the_entry_named() -> None:
    for baggage, field in (
        ({"tenant": "\ud800"}, "baggage.tenant"),
        ({"\ud800": "blue"}, r"baggage.'\ud800'"),
        ({"tenant": 3}, "baggage.tenant"),
        ({"tenant": "x" * MAX_CALL_BYTES}, "baggage"),
        ({str(number): "" for number in range(MAX_CALL_ENTRIES + 1)}, "baggage"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            check_baggage(baggage)  # type: ignore[arg-type]
        assert refused.value.field == field
    for entries in ({"tenant": "x" * MAX_BYTES}, {str(number): "" for number in range(MAX_ENTRIES + 1)}):
        with pytest.raises(InvalidArgument, match="are allowed"):
            carrying(**entries)
    with pytest.raises(InvalidArgument) as refused:
        carrying(principal="root")
    assert refused.value.field == "baggage.principal"
    with pytest.raises(InvalidArgument) as refused:
        arrive({"principal": "{"}, is_trusted=True)
    assert refused.value.field == "baggage.principal"


async def test_a_command_fails_for_bad_baggage_and_a_read_which_is_everybodys_does_not() -> None:
    witness = Witness()
    async with LocalCluster(app_with(witness), shards=2) as cluster:
        bakery = cluster.service(Bakery)
        token = current_baggage.set({"tenant": "\ud800"})  # not by `carrying`, which refuses it
        with pytest.raises(InvalidArgument, match="tenant"):
            await bakery.set_price("roll", 3)
        assert await bakery.price("roll") == 2
        current_baggage.reset(token)
        assert await bakery.price("roll") == 2
    assert witness.of("Bakery.price") == [(None, {})]
