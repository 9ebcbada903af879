"""Options of the freshness monitor: how much it compares, and how long a difference may last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fusion_cluster.quantities import as_finite_timeout, as_number

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

MAX_RATE: Final = 1000.0
"""The most values a second: each costs its owner a run of the method's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """How cached values are verified while an app runs: `App(verify=VerifyOptions(...))`.

    Attributes:
        rate: how many values each member compares a second. Each comparison runs the body of a compute method once
            more, on the shard that owns the key, one at a time.
        bound_s: how long a cached value may differ, in seconds, before that is a violation. It has to be longer than
            the time in which an invalidation reaches all members after a crash: some seconds. A method with an
            `invalidation_delay` or a `consolidation_delay` has that delay besides.
        timeout_s: how long one computation may take.
        meter_provider: makes the OpenTelemetry counters; None: the global provider, if opentelemetry-api is installed.

    Raises:
        UsageError: a number that must be positive is not; `field` names it.
    """

    rate: float = 1.0
    bound_s: float = 5.0
    timeout_s: float = 10.0
    meter_provider: MeterProvider | None = None

    def __post_init__(self) -> None:
        keep = object.__setattr__
        wanted = f"a number of values a second from 0.001 to {MAX_RATE:g}"
        keep(self, "rate", as_number("rate", self.rate, wanted, least=0.001, most=MAX_RATE))
        for name in ("bound_s", "timeout_s"):
            keep(self, name, as_finite_timeout(name, getattr(self, name)))
