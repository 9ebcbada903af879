"""Options of the delivery of events: how many at a time, how often each is tried, how long dead letters are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fusion_cluster.errors import UsageError
from fusion_cluster.quantities import as_count, as_finite_timeout, as_timeout
from fusion_cluster.runtime import SYSTEM, Entropy

Backoff = Callable[[int], float]
"""Seconds until the next attempt, given how many have failed: 1, 2, …"""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0


def exponential_backoff(failed: int, entropy: Entropy = SYSTEM.entropy) -> float:
    """Return 1 s, 2 s, 4 s, … up to 5 min, each up to a half shorter at random.

    The randomness spreads events that failed together.
    """
    longest_s = min(FIRST_PAUSE_S * 2.0 ** min(failed - 1, 60), LONGEST_PAUSE_S)
    return longest_s * entropy.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOptions:
    """How an app's events are delivered: `App(events=EventOptions(...))`.

    Attributes:
        max_attempts: after this many failed attempts an event is a dead letter.
        backoff: the pause after a failed attempt, given the number of failed attempts; an error's own `retry_after_s`
            may make it longer. By default about 1 s, then twice as long each time, up to 5 min.
        concurrency: how many events each host delivers at a time, each of another key.
        timeout_s: how long a handler may run; then it is cancelled and counts as failed.
        poll_period_s: how often each host searches for events for which it got no wake.
        claim_s: for how long a silent host keeps the events that it was delivering; living hosts renew their claims.
            After a crash the events are delivered again when this time is over.
        dead_retention_s: how long dead letters are kept.

    Raises:
        UsageError: a number that must be positive is not; `field` names it.
    """

    max_attempts: int = 10
    backoff: Backoff = exponential_backoff
    concurrency: int = 16
    timeout_s: float = 300.0
    poll_period_s: float = 1.0
    claim_s: float = 10.0
    dead_retention_s: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        keep = object.__setattr__
        for name in ("max_attempts", "concurrency"):
            keep(self, name, as_count(name, getattr(self, name)))
        for name in ("timeout_s", "dead_retention_s"):
            keep(self, name, as_timeout(name, getattr(self, name)))
        for name in ("poll_period_s", "claim_s"):
            keep(self, name, as_finite_timeout(name, getattr(self, name)))
        if not callable(self.backoff):
            raise UsageError("backoff must be a function of the number of failed attempts", field="backoff")


DEFAULT_EVENT_OPTIONS: Final = EventOptions()
