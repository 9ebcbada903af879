"""The time as a service: its values are right until the next step of the clock, and expire then by themselves.

Their dependents expire with them: a board that shows "3 minutes ago" is computed again when the text becomes "4 minutes
ago", and not before.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from fusion_cluster.bodies.expiry import expire_at
from fusion_cluster.catalogue.service import ComputeService, runtime_of
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import compute_method
from fusion_cluster.quantities import LONGEST_S, as_number

FINEST_GRANULARITY_S: Final = 0.01
"""The shortest step of the clock: each step invalidates all that depends on it."""

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S
_UNITS: Final = (
    (_MINUTE_S, "a minute", "minutes"),
    (_HOUR_S, "an hour", "hours"),
    (_DAY_S, "a day", "days"),
    (30 * _DAY_S, "a month", "months"),
    (365 * _DAY_S, "a year", "years"),
)


class Clock(ComputeService):
    """Tells the time. It does not need a database.

    The shard that owns a key computes it by its own clock, and pushes each step to all readers of the key. So all
    readers see one clock. It steps at the same moment everywhere, apart from the time that a push takes. A key that is
    not read does not tick: its next step is awaited only from a read to the invalidation that follows it.
    """

    @compute_method
    async def now(self, granularity_s: float = 1.0) -> datetime:
        """Return the time in UTC, rounded down to a whole number of `granularity_s`, counted from 1970.

        It is out of date when the next step begins. With 60 it steps at each full minute, with 86,400 at midnight.

        Args:
            granularity_s: the length of a step in seconds, 0.01 or more. Choose the longest step that is good enough:
                each step invalidates all that depends on it.

        Raises:
            InvalidArgument: it is not a finite number, or it is less than 0.01.
        """
        wanted = f"a number of seconds from {FINEST_GRANULARITY_S} to {LONGEST_S:.0f}"
        as_number("granularity_s", granularity_s, wanted, least=FINEST_GRANULARITY_S, most=LONGEST_S)
        step = _whole_steps(0.0, granularity_s, runtime_of(self).clock.wall())
        expire_at((step + 1) * granularity_s)
        return datetime.fromtimestamp(step * granularity_s, UTC)

    @compute_method
    async def moments_ago(self, moment: datetime) -> str:
        """Say how long ago a moment was: "just now", "a minute ago", "3 hours ago", "2 years ago".

        The text is out of date exactly when the words change. The time is rounded down to the largest unit that fits;
        months have 30 days, years 365. A moment in the future counts as "just now": it may come from a clock that is
        ahead.

        Args:
            moment: a time with its zone.

        Raises:
            InvalidArgument: it is not a time, or it has no zone.
        """
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise InvalidArgument(f"a moment is a time with its zone, not {moment!r}", field="moment")
        words, until_s = _in_words(moment.timestamp(), runtime_of(self).clock.wall())
        expire_at(until_s)
        return words


def _in_words(moment_s: float, now_s: float) -> tuple[str, float]:
    """Return in words how long ago `moment_s` was, and until when these words are right."""
    words, until_s = "just now", moment_s + _MINUTE_S
    for unit_s, one, many in _UNITS:
        if now_s < moment_s + unit_s:
            return words, min(until_s, moment_s + unit_s)
        count = _whole_steps(moment_s, unit_s, now_s)
        words = f"{one if count == 1 else f'{count} {many}'} ago"
        until_s = moment_s + (count + 1) * unit_s
    return words, until_s


def _whole_steps(start_s: float, step_s: float, now_s: float) -> int:
    """Return the largest n with `start_s + n * step_s <= now_s`, exactly as these floats compare.

    The end of a step is such a sum too, so a call at the end of a step finds the next step.
    """
    steps = math.floor((now_s - start_s) / step_s)
    while start_s + (steps + 1) * step_s <= now_s:
        steps += 1
    while start_s + steps * step_s > now_s:
        steps -= 1
    return steps
