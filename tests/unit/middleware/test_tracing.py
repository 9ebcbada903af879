"""Tracing, with OpenTelemetry's own exporter to memory."""

from __future__ import annotations

import asyncio
import builtins
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from fusion_cluster import Call, Next, UsageError
from fusion_cluster.middleware import Tracing
from tests.unit.middleware.bakery import baking


class Traced:
    """A provider of spans, and those that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    def middleware(self, **options: Any) -> Tracing:
        return Tracing(tracer_provider=self.provider, **options)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.provider.shutdown()


def is_parent(parent: ReadableSpan, span: ReadableSpan) -> bool:
    context = parent.get_span_context()
    return span.parent is not None and context is not None and span.parent.span_id == context.span_id


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_computation_is_a_span_beneath_that_of_its_caller(traced: Traced) -> None:
    async with baking(traced.middleware()) as bakery:
        with traced.tracer.start_as_current_span("request"):
            await bakery.total("roll")
            await bakery.total("roll")
    request, total, price = (traced.span(name) for name in ("request", "Bakery.total", "Bakery.price"))
    assert is_parent(request, total)
    assert is_parent(total, price)
    assert total.kind is SpanKind.INTERNAL
    assert attributes_of(total) == {
        "fusion_cluster.service": "Bakery",
        "fusion_cluster.method": "total",
        "fusion_cluster.kind": "compute",
    }
    assert total.status.status_code is StatusCode.UNSET


async def test_a_command_is_a_span_with_its_id_and_nested_ones_are_beneath_it(traced: Traced) -> None:
    async with baking(traced.middleware()) as bakery:
        with traced.tracer.start_as_current_span("request"):
            await bakery.set_prices({"roll": 3})
    request, outer, inner = (traced.span(name) for name in ("request", "Bakery.set_prices", "Bakery.set_price"))
    assert is_parent(request, outer)
    assert is_parent(outer, inner)
    outer_attributes, inner_attributes = attributes_of(outer), attributes_of(inner)
    assert outer_attributes["fusion_cluster.command_id"] == inner_attributes["fusion_cluster.command_id"]
    assert not outer_attributes["fusion_cluster.is_nested"]
    assert inner_attributes["fusion_cluster.is_nested"]


async def test_an_error_is_recorded_where_it_arises_and_wherever_it_passes(traced: Traced) -> None:
    async with baking(traced.middleware()) as bakery:
        with pytest.raises(KeyError):
            await bakery.total("bread")
    for name in ("Bakery.price", "Bakery.total"):
        span = traced.span(name)
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "KeyError: 'bread'")
        (event,) = span.events
        assert event.name == "exception"
        assert event.attributes is not None
        assert event.attributes["exception.type"] == "KeyError"
        assert "self.prices[product]" in str(event.attributes["exception.stacktrace"])


async def test_a_cancellation_is_no_error(traced: Traced) -> None:
    async with baking(traced.middleware()) as bakery:
        run = asyncio.ensure_future(bakery.close())
        await bakery.entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    span = traced.span("Bakery.close")
    assert span.status.status_code is StatusCode.UNSET
    assert attributes_of(span)["fusion_cluster.is_cancelled"] is True


async def test_arguments_are_told_if_asked_for_and_cut(traced: Traced) -> None:
    async with baking(traced.middleware(arguments=True)) as bakery:
        await bakery.total("roll", count=2)
        await bakery.heavy(2**64 - 1)
        await bakery.order(10_000 * "x")
    attributes = attributes_of(traced.span("Bakery.total"))
    told = {name: value for name, value in attributes.items() if name.startswith("fusion_cluster.argument.")}
    assert told == {
        "fusion_cluster.argument.product": "'roll'",
        "fusion_cluster.argument.count": 2,
        "fusion_cluster.argument.coupon": "''",
    }
    assert attributes_of(traced.span("Bakery.heavy"))["fusion_cluster.argument.number"] == str(2**64 - 1)
    assert len(str(attributes_of(traced.span("Bakery.order"))["fusion_cluster.argument.product"])) < 100


@pytest.mark.parametrize("method", ["receipt", "letter"])
async def test_a_body_in_a_thread_has_the_span_and_what_it_reads_is_beneath_it(traced: Traced, method: str) -> None:
    async with baking(traced.middleware()) as bakery:
        await (bakery.receipt if method == "receipt" else bakery.letter)("roll")
    assert is_parent(traced.span(f"Bakery.{method}"), traced.span("Bakery.price"))


async def test_the_body_has_its_span_as_the_current_one(traced: Traced) -> None:
    async def annotating(call: Call, next: Next) -> Any:
        trace.get_current_span().set_attribute("annotated", call.name)
        return await next(call)

    async with baking(traced.middleware(), annotating) as bakery:
        await bakery.price("roll")
        assert not trace.get_current_span().get_span_context().is_valid
    assert attributes_of(traced.span("Bakery.price"))["annotated"] == "Bakery.price"


async def test_the_global_provider_is_used_without_one_and_costs_no_error_where_none_is_set() -> None:
    async with baking(Tracing()) as bakery:
        assert await bakery.price("roll") == 2
        with pytest.raises(KeyError):
            await bakery.price("bread")


async def test_a_span_that_begins_in_another_trace_stays_there(traced: Traced) -> None:
    """Who joins a computation, or hits its result, adds nothing to it."""
    async with baking(traced.middleware()) as bakery:

        async def read(name: str) -> int:
            with traced.tracer.start_as_current_span(name):
                return await bakery.held(1)

        readers = [asyncio.ensure_future(read(name)) for name in ("first", "second")]
        await bakery.entered.wait()
        bakery.gate.set()
        assert await asyncio.gather(*readers) == [1, 1]
    assert is_parent(traced.span("first"), traced.span("Bakery.held"))


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'fusion-cluster\[tracing\]'"):
        Tracing()


def test_nothing_of_opentelemetry_is_imported_with_the_library() -> None:
    program = "import sys, fusion_cluster.middleware; print([name for name in sys.modules if 'opentelemetry' in name])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "[]\n"
