"""OpenTelemetry spans for commands, computations and event handlers (extra: `pip install fusion-cluster[tracing]`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import in_words
from fusion_cluster.graph.why.abridged import abridged
from fusion_cluster.middleware.call import Call, Next

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

logger = logging.getLogger(__name__)

INSTRUMENTATION: Final = "fusion_cluster"
"""The name of the instrumentation that makes the spans."""

SERVICE: Final = "fusion_cluster.service"
METHOD: Final = "fusion_cluster.method"
KIND: Final = "fusion_cluster.kind"
COMMAND_ID: Final = "fusion_cluster.command_id"
IS_NESTED: Final = "fusion_cluster.is_nested"
IS_CANCELLED: Final = "fusion_cluster.is_cancelled"
ARGUMENT: Final = "fusion_cluster.argument."

LARGE: Final = 2**63
"""An integer of this size or larger cannot leave the process as a number."""


class Tracing:
    """Middleware that makes an OpenTelemetry span of each run of a body.

    The span has the name of the method ("Products.set_price") and the kind INTERNAL; that of an event handler's run has
    the kind CONSUMER. Its attributes are
    `fusion_cluster.service`, `.method` and `.kind` (as `Call.kind`); for commands `.command_id` and `.is_nested`;
    `.is_cancelled` if it was cancelled; and, if asked for, `.argument.<parameter>`. An error is recorded as an
    exception with its traceback, and sets the span's status.

    The parent is the caller's span, also if the caller is in another process: the trace context (W3C) travels with the
    call. If several callers wait for a computation, its parent is the span of the first. A hit does not make a span.
    The parent of an event handler's span is the span in which the event was emitted, at each attempt.
    Bodies in threads see the span as current. Bodies that run as Ray tasks do not; their spans end with the task.

    Args:
        tracer_provider: makes the spans; None: the global provider, whenever that is set.
        arguments: put the arguments into the spans, each as a short text. Leave it off where they must stay private.

    Raises:
        UsageError: opentelemetry-api is not installed.
    """

    def __init__(self, *, tracer_provider: TracerProvider | None = None, arguments: bool = False) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise UsageError("Tracing needs opentelemetry-api: pip install 'fusion-cluster[tracing]'") from error
        self._tracer = trace.get_tracer(INSTRUMENTATION, tracer_provider=tracer_provider)
        self._current_span = trace.get_current_span
        self._kinds = {"event": trace.SpanKind.CONSUMER}
        self._other_kind = trace.SpanKind.INTERNAL
        self._propagator = TraceContextTextMapPropagator()
        self._arguments = arguments
        self._error = trace.StatusCode.ERROR

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let the call through in a span of its own."""
        failure: BaseException | None = None
        with self._tracer.start_as_current_span(
            call.name,
            self._parent(call),
            kind=self._kinds.get(call.kind, self._other_kind),
            attributes=self._attributes(call),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await next(call)
            except asyncio.CancelledError as error:
                span.set_attribute(IS_CANCELLED, True)
                failure = error
            except BaseException as error:
                self._record(span, error)
                failure = error
        try:  # outside: the block of the span writes into exceptions that pass it, and some do not allow that
            raise failure
        finally:
            del failure

    def carried(self) -> Mapping[str, str]:
        """Return what calls that leave the process from the current span take along: its trace context."""
        carried: dict[str, str] = {}
        self._propagator.inject(carried)
        return carried

    def _parent(self, call: Call) -> Context | None:
        """Return the context with the caller's span if that is in another process; else None: the current context."""
        if not call.baggage or self._current_span().get_span_context().is_valid:
            return None
        return self._propagator.extract(call.baggage)

    def _record(self, span: Span, error: BaseException) -> None:
        if span.is_recording():
            try:
                span.record_exception(error)
            except Exception:  # its text or its traceback cannot be made
                logger.debug("an error of %s cannot be recorded", type(error).__name__)
            span.set_status(self._error, in_words(error))

    def _attributes(self, call: Call) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {
            SERVICE: call.service_name,
            METHOD: call.method_name,
            KIND: call.kind,
        }
        if call.command_id is not None:
            attributes[COMMAND_ID] = call.command_id
            attributes[IS_NESTED] = call.is_nested
        if self._arguments:
            for name, argument in zip(call.parameter_names, call.arguments, strict=True):
                attributes[ARGUMENT + name] = _attribute(argument)
        return attributes


def _attribute(argument: object) -> AttributeValue:
    """Return an argument in a form for spans: numbers and truth values as they are, all else as a short text."""
    if isinstance(argument, bool | float) or (isinstance(argument, int) and abs(argument) < LARGE):
        return argument
    return abridged(argument)
