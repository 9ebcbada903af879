"""Counts what verification finds, by OpenTelemetry if that is installed (`pip install fusion-cluster[tracing]`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

INSTRUMENTATION: Final = "fusion_cluster"

VALUES: Final = "fusion_cluster.verification.values"
"""Counter of the values that were looked at; the attribute `fusion_cluster.outcome` tells the result."""

VIOLATIONS: Final = "fusion_cluster.verification.violations"
"""Counter of the violations."""

METHOD: Final = "fusion_cluster.method"
OUTCOME: Final = "fusion_cluster.outcome"

Count = Callable[[str, str, bool], None]
"""Counts one value: the method, the outcome, and whether it is a violation."""


def counters(meter_provider: MeterProvider | None = None) -> Count:
    """Return what counts values; without opentelemetry-api, and without a provider, it does nothing.

    Args:
        meter_provider: makes the counters; None: the global provider.
    """
    try:
        from opentelemetry import metrics
    except ImportError:
        return _nothing
    meter = metrics.get_meter(INSTRUMENTATION, meter_provider=meter_provider)
    values = meter.create_counter(VALUES, "{value}", "cached values that were compared with what their methods return")
    violations = meter.create_counter(VIOLATIONS, "{value}", "cached values that differed for longer than the bound")

    def count(method: str, outcome: str, is_violation: bool) -> None:
        values.add(1, {METHOD: method, OUTCOME: outcome})
        if is_violation:
            violations.add(1, {METHOD: method, OUTCOME: outcome})

    return count


def _nothing(method: str, outcome: str, is_violation: bool) -> None:
    pass
